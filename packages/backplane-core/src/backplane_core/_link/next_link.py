"""The next link while the old one still lives: subscribed to the same, read, and held back: `NextLink`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Final

from attrs import define, field

from backplane_core.errors import TransportError
from backplane_core.transport import Frame, Link, Lost

__all__ = ["NextLink", "number_of", "with_timeout"]

SUBSCRIBE_BATCH: Final = 512
MAX_MARKS: Final = 999_999_999
HELD_BYTES: Final = 32 << 20
"""100,000 frames. Beyond it the successor is not read for the moment that is left, and its broker's own limit holds."""


async def with_timeout(asking: Awaitable[object], timeout_s: float) -> None:
    """Return once the broker answered.

    Raises:
        TransportError: The link is dead, or there is no answer in time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            await asking
    except TimeoutError:
        raise TransportError("the broker does not answer: it is frozen, or the line is cut") from None


def number_of(mark: bytes) -> int:
    """Return a mark's number; 0 for what is none, since anyone on the bus may write to its channel."""
    return int(mark) if mark.isdigit() and len(mark) <= len(str(MAX_MARKS)) else 0


@define(eq=False)
class NextLink:
    """The next link, read beside the old one.

    Args:
        link: Open.
        mark: The channel of marks.
        timeout_s: How long each of its answers may take.
        backlog: What it is still to subscribe to.
    """

    link: Link
    mark: str
    timeout_s: float
    backlog: dict[str, None]
    heard: int = field(default=0, init=False)
    """The number of the last mark."""
    batches: AsyncIterator[list[Frame | Lost]] = field(init=False)
    changed: asyncio.Event = field(factory=asyncio.Event, init=False)
    # One at a time: what is given up must not overtake what is still being subscribed.
    _asking: asyncio.Lock = field(factory=asyncio.Lock, init=False)
    _held: list[Frame | Lost] = field(factory=list[Frame | Lost], init=False)
    _held_bytes: int = field(default=0, init=False)
    _released: asyncio.Event = field(factory=asyncio.Event, init=False)
    _failure: str | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.batches = self.link.receive()

    async def read(self) -> None:
        """Read until released, and the one batch that is awaited then."""
        try:
            while not self._released.is_set():
                self._take(await anext(self.batches))
                if self._held_bytes > HELD_BYTES:
                    await self._released.wait()
        except StopAsyncIteration:
            self.fail("the link ended without saying why")
        except TransportError as error:
            self.fail(str(error))

    def _take(self, batch: Sequence[Frame | Lost]) -> None:
        for item in batch:
            if isinstance(item, Lost) or item[0] != self.mark:
                self._held.append(item)
                self._held_bytes += 0 if isinstance(item, Lost) else len(item[1])
            else:
                self.heard = number_of(item[1]) or self.heard
                self.changed.set()

    def fail(self, reason: str) -> None:
        """It is dead."""
        self._failure = self._failure or reason
        self.changed.set()

    def check(self) -> None:
        """Return if it lives.

        Raises:
            TransportError: It is dead.
        """
        if self._failure is not None:
            raise TransportError(self._failure)

    def take_held(self) -> list[Frame | Lost]:
        """Return what is held, and hold it no longer."""
        held, self._held = self._held, []
        return held

    def lose(self, reason: str) -> None:
        """Say, ahead of all that is held, that frames may be missing."""
        self._held.insert(0, Lost(None, reason))

    def release(self) -> None:
        """Let `read` end."""
        self._released.set()

    async def catch_up(self) -> None:
        """Subscribe to all that the old link hears.

        Raises:
            TransportError: It is dead, or does not answer.
        """
        while self.backlog:
            async with self._asking:
                # From the end: taking from a dict's front again and again is quadratic.
                batch = [self.backlog.popitem()[0] for _ in range(min(SUBSCRIBE_BATCH, len(self.backlog)))]
                await with_timeout(self.link.subscribe(batch), self.timeout_s)
        # Last: who knows of this one knows of all.
        await with_timeout(self.link.subscribe([self.mark]), self.timeout_s)

    async def subscribe(self, channels: Sequence[str]) -> None:
        """Subscribe to what the old link has just been subscribed to."""
        if self.backlog:
            self.backlog.update(dict.fromkeys(channels))
        else:
            async with self._asking:
                await with_timeout(self.link.subscribe(channels), self.timeout_s)

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Give up what the old link has just given up."""
        async with self._asking:
            heard = [channel for channel in channels if channel not in self.backlog]
            for channel in channels:
                self.backlog.pop(channel, None)
            await with_timeout(self.link.unsubscribe(heard), self.timeout_s)
