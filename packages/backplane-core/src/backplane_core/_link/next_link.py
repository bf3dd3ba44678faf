"""The next link while the old one still lives, subscribed to the same channels, read, and held back: `NextLink`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

from attrs import define, field

from backplane_core._link.handover_options import HandoverOptions
from backplane_core._link.marks import Marks, Sieve
from backplane_core._runtime.faults import log_fault
from backplane_core.errors import RefusedError, TransportError
from backplane_core.transport import Frame, Link, Lost

__all__ = ["NextLink"]

SUBSCRIBE_BATCH: Final = 512
HELD_BYTES: Final = 32 << 20
"""Some 100,000 frames. Beyond that the next link is not read until the switch, and its broker's own limit applies."""


@define(eq=False)
class NextLink:
    """The next link, read at the same time as the old one.

    Args:
        link: The link, already open.
        marks: What is looked for in it.
        moving: Says which channels it is of no use without, and waits for its answers.
        backlog: The channels that it has yet to subscribe to.
        changed: Set when it brought something, or died.
    """

    link: Link
    marks: Marks
    moving: HandoverOptions
    backlog: dict[str, None]
    changed: asyncio.Event
    sieve: Sieve = field(init=False)
    refused: dict[str, str] = field(factory=dict[str, str], init=False)
    """What its node refused of that which the old link hears, and why."""
    _batches: AsyncIterator[list[Frame | Lost]] = field(init=False)
    _reading: asyncio.Task[None] = field(init=False)
    # One at a time: an unsubscribe must not overtake a subscribe.
    _asking: asyncio.Lock = field(factory=asyncio.Lock, init=False)
    _held: list[Frame | Lost] = field(factory=list[Frame | Lost], init=False)
    _held_bytes: int = field(default=0, init=False)
    _released: asyncio.Event = field(factory=asyncio.Event, init=False)
    _failure: str | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.sieve = Sieve(self.marks)
        self.sieve.begin()
        self._batches = self.link.receive()
        self._reading = asyncio.create_task(self._read(), name="backplane-next-link")

    async def _read(self) -> None:
        """Read until released, and then the one batch that is already being awaited: to cancel that could lose it."""
        try:
            while not self._released.is_set():
                self._hold(await anext(self._batches))
                if self._held_bytes > HELD_BYTES:
                    await self._released.wait()
        except StopAsyncIteration:
            self.fail("the link ended without saying why")
        except TransportError as error:
            self.fail(str(error))
        except Exception as error:  # noqa: BLE001 -- as the supervisor does
            self.fail(log_fault("the transport failed", error))

    def _hold(self, batch: list[Frame | Lost]) -> None:
        # Once released, its marks are left to `receive`: they may be those of another move by now.
        kept = batch if self._released.is_set() else self.sieve.sift(batch)
        self._held += kept
        self._held_bytes += sum(len(item[1]) for item in kept if not isinstance(item, Lost))
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

    def lose(self, reason: str) -> None:
        """Note, ahead of the frames held, that frames may be missing."""
        self._held.insert(0, Lost(None, reason))

    def release(self) -> None:
        """Let `receive` go on: nothing is held back any longer."""
        self._released.set()

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        """Yield, once released, what was held, and then what the link brings.

        Raises:
            TransportError: The link is dead.
        """
        if held := self._take_held():
            yield held
        await self._reading  # a quiet link: until it brings something, as any `receive` does
        if held := self._take_held():
            yield held
        self.check()
        async for batch in self._batches:
            yield batch

    def _take_held(self) -> list[Frame | Lost]:
        held, self._held = self._held, []
        return held

    async def stop(self) -> None:
        """Read no further, and leave no task behind."""
        self._reading.cancel()
        await asyncio.wait({self._reading})

    async def catch_up(self) -> None:
        """Subscribe to everything that the old link is subscribed to.

        Raises:
            TransportError: It is dead, or does not answer.
        """
        while self.backlog:
            async with self._asking:
                # From the end: removing from the front of a dict repeatedly is quadratic.
                batch = [self.backlog.popitem()[0] for _ in range(min(SUBSCRIBE_BATCH, len(self.backlog)))]
                try:
                    await self.moving.patience.wait(self.link.subscribe(batch))
                except RefusedError as error:
                    self._note(batch, error)
        # Last: a node that knows of this subscription knows of all.
        await self.moving.patience.wait(self.link.subscribe([self.marks.channel]))
        self.sieve.is_subscribed = True

    def _note(self, channels: Sequence[str], error: RefusedError) -> None:
        for refusal in error.refusals:
            channel = channels[refusal.index]
            if channel in self.moving.vital:
                raise TransportError(refusal.reason) from None
            self.refused[channel] = refusal.reason

    async def subscribe(self, channels: Sequence[str]) -> None:
        """Subscribe to what the old link has just been subscribed to.

        Raises:
            TransportError: It is dead, or does not answer.
            RefusedError: Its node refuses some of them.
        """
        if self.backlog:
            self.backlog.update(dict.fromkeys(channels))
        else:
            async with self._asking:
                await self.moving.patience.wait(self.link.subscribe(channels))

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Unsubscribe from what the old link has just unsubscribed from."""
        async with self._asking:
            heard = [name for name in channels if name not in self.backlog and name not in self.refused]
            for channel in channels:
                self.backlog.pop(channel, None)
                self.refused.pop(channel, None)
            if heard:
                await self.moving.patience.wait(self.link.unsubscribe(heard))
