"""The next link while the old one still lives, subscribed to the same channels, read, and held back: `NextLink`."""

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
"""Some 100,000 frames. Beyond that the next link is not read until the switch, and its broker's own limit applies."""


async def with_timeout(asking: Awaitable[object], timeout_s: float) -> None:
    """Return once the broker answered.

    Raises:
        TransportError: The link is dead, or did not answer in time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            await asking
    except TimeoutError:
        raise TransportError("the broker does not answer: it is frozen, or the line is cut") from None


def number_of(mark: bytes) -> int:
    """Return the number of a mark, or 0 if it is not one: anyone on the bus may write to its channel."""
    return int(mark) if mark.isdigit() and len(mark) <= len(str(MAX_MARKS)) else 0


@define(eq=False)
class NextLink:
    """The next link, read at the same time as the old one.

    Args:
        link: The link, already open.
        mark: The channel of marks.
        timeout_s: How long each of its answers may take.
        backlog: The channels that it has yet to subscribe to.
    """

    link: Link
    mark: str
    timeout_s: float
    backlog: dict[str, None]
    heard: int = field(default=0, init=False)
    """The number of the last mark heard."""
    batches: AsyncIterator[list[Frame | Lost]] = field(init=False)
    changed: asyncio.Event = field(factory=asyncio.Event, init=False)
    # One at a time: an unsubscribe must not overtake a subscribe.
    _asking: asyncio.Lock = field(factory=asyncio.Lock, init=False)
    _held: list[Frame | Lost] = field(factory=list[Frame | Lost], init=False)
    _held_bytes: int = field(default=0, init=False)
    _released: asyncio.Event = field(factory=asyncio.Event, init=False)
    _failure: str | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.batches = self.link.receive()

    async def read(self) -> None:
        """Read until released, and then the one batch that is already being awaited."""
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
        """Record that the link is dead."""
        self._failure = self._failure or reason
        self.changed.set()

    def check(self) -> None:
        """Return if the link is alive.

        Raises:
            TransportError: It is dead.
        """
        if self._failure is not None:
            raise TransportError(self._failure)

    def take_held(self) -> list[Frame | Lost]:
        """Return the frames held, and forget them."""
        held, self._held = self._held, []
        return held

    def lose(self, reason: str) -> None:
        """Note, ahead of the frames held, that frames may be missing."""
        self._held.insert(0, Lost(None, reason))

    def release(self) -> None:
        """Let `read` end."""
        self._released.set()

    async def catch_up(self) -> None:
        """Subscribe to everything that the old link is subscribed to.

        Raises:
            TransportError: It is dead, or does not answer.
        """
        while self.backlog:
            async with self._asking:
                # From the end: removing from the front of a dict repeatedly is quadratic.
                batch = [self.backlog.popitem()[0] for _ in range(min(SUBSCRIBE_BATCH, len(self.backlog)))]
                await with_timeout(self.link.subscribe(batch), self.timeout_s)
        # Last: a node that knows of this subscription knows of all.
        await with_timeout(self.link.subscribe([self.mark]), self.timeout_s)

    async def subscribe(self, channels: Sequence[str]) -> None:
        """Subscribe to what the old link has just been subscribed to."""
        if self.backlog:
            self.backlog.update(dict.fromkeys(channels))
        else:
            async with self._asking:
                await with_timeout(self.link.subscribe(channels), self.timeout_s)

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Unsubscribe from what the old link has just unsubscribed from."""
        async with self._asking:
            heard = [channel for channel in channels if channel not in self.backlog]
            for channel in channels:
                self.backlog.pop(channel, None)
            await with_timeout(self.link.unsubscribe(heard), self.timeout_s)
