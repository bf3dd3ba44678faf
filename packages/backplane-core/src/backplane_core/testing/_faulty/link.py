"""A link that fails by chance, and when its transport makes it fail: `FaultyLink`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from random import Random
from typing import Protocol

from backplane_core.errors import TransportError
from backplane_core.testing._faulty.chance import draw_time, happens
from backplane_core.testing._faulty.line import Line
from backplane_core.testing._faulty.pauses import Pauses
from backplane_core.testing.faults import Faults
from backplane_core.testing.memory import MemoryBroker, MemoryLink
from backplane_core.transport import Frame, Lost, Traits

__all__ = ["FaultyLink"]


class Opener(Protocol):
    """The transport of a link, as far as the link asks it.

    Args:
        broker: Where its frames go.
        faults: What goes wrong now.
        random: Where chance comes from.
    """

    broker: MemoryBroker
    faults: Faults
    random: Random

    @property
    def traits(self) -> Traits:
        """What the transport can do."""
        ...


class FaultyLink(MemoryLink):
    """A link of a `FaultyTransport`.

    Args:
        transport: Which transport opens it.
    """

    def __init__(self, transport: Opener) -> None:
        super().__init__(transport.broker)
        self.deaf = False
        self.answered = True
        self.muted = False
        self._transport = transport
        self._line = Line(self)
        self._pauses = Pauses()
        self._ending = False

    @property
    def is_dead(self) -> bool:
        """Whether it has ended."""
        return self._dead is not None

    async def subscribe(self, channels: Sequence[str]) -> None:
        """Subscribe to the channels, or die; the broker may do its part long before this link learns of it."""
        faults = self._transport.faults
        await self._pause(self._draw_time(faults.subscribe_s))
        await self._forever_if(self.muted)
        cut = self._happens(faults.cut_subscribe)
        if cut and self._happens(0.5):
            self._fail("the connection was cut before the broker subscribed it")
        await self._subscribe_scattered(channels)
        await self._pause(self._draw_time(faults.subscribe_s))
        if cut:
            self._fail("the connection was cut before the subscription was confirmed")
        await self._forever_if(self._happens(faults.hang_subscribe) or not self.answered)

    async def _subscribe_scattered(self, channels: Sequence[str]) -> None:
        """Have the broker subscribe each channel, or those of each node, at a moment of its own."""
        faults = self._transport.faults
        if not faults.scatter_s:
            await super().subscribe(channels)
            return
        groups = _by_node(channels, faults.nodes)
        moments = [self._draw_time(faults.scatter_s) for _ in groups]
        passed = 0.0
        for moment, number in sorted((moment, number) for number, moment in enumerate(moments)):
            await self._pause(moment - passed)
            passed = moment
            await super().subscribe(groups[number])

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Unsubscribe from the channels; frames that were on their way still arrive."""
        await self._pause(self._draw_time(self._transport.faults.subscribe_s))
        await self._forever_if(self.muted)
        await super().unsubscribe(channels)
        await self._forever_if(not self.answered)

    async def send(self, frames: Sequence[Frame]) -> None:
        """Bring the frames to the broker: all, some or none of them, or late, and perhaps without a confirmation."""
        faults, transport = self._transport.faults, self._transport
        frames = list(frames)  # core takes them back once this link is dead, and stragglers are still to come
        arrived = 0
        try:
            await self._turn()
            await self._pause(self._draw_time(faults.send_s))
            await self._forever_if(self.muted)
            if self._happens(faults.cut_before):
                self._fail("the connection was cut before the frames were sent")
            cut = self._happens(faults.cut_within)
            until = transport.random.randrange(len(frames)) if cut else len(frames)
            while arrived < until:
                self._broker.publish(frames[arrived])
                arrived += 1
            if cut:
                self._fail("the connection was cut while the frames were sent")
        except BaseException:
            if faults.straggle_s:
                self._straggle(frames[arrived:])
            raise
        if self._happens(faults.cut_after):
            self._fail("the connection was cut before the frames were confirmed")
        await self._forever_if(self._happens(faults.hang_confirm) or not self.answered)
        if transport.traits.single_stream:
            await self._stand_in_line()
        else:
            await self._pause(self._draw_time(faults.confirm_s))

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        """Yield what arrived, without what was lost on the way."""
        while True:
            if self._dead is None:
                await self._arrived.wait()
            self._arrived.clear()
            items, self._waiting = self._waiting, []
            batch = self._line.sift(items)
            if batch:
                yield self._spoil(batch)
            elif not items and self._dead is not None:
                raise TransportError(self._dead)

    def take(self, frame: Frame) -> None:
        """Put a frame on its way here, behind those that are on it."""
        self._line.put(frame, self._draw_time(self._transport.faults.deliver_s))

    def arrive(self, frame: Frame) -> None:
        """Take a frame at the end of its way; a deaf or dead link never learns of it."""
        if not self.deaf:
            super().take(frame)

    def deafen(self) -> None:
        """Get no frames from now on, not even those on their way."""
        self.deaf = True
        self._waiting.clear()

    def die(self, reason: str) -> None:
        """End at the broker's side.

        The end arrives behind what is on its way to this link; with a reset it discards that.
        """
        if self._dead is not None or self._ending:
            return
        reset = self._happens(self._transport.faults.reset)
        if reset:
            self._waiting.clear()
        if reset or not self._line:
            self.end(reason)
        else:
            self._ending = self.muted = True
            self._subscribers.leave(self)
            asyncio.get_running_loop().call_at(self._line.due, self._end_behind, reason)

    async def aclose(self) -> None:
        """Disconnect from the broker, and discard what is on its way."""
        self.end("closed")

    def end(self, reason: str) -> None:
        """Be dead from now on."""
        super().die(reason)
        self._pauses.wake_all()

    def _end_behind(self, reason: str) -> None:
        if self._line:
            asyncio.get_running_loop().call_soon(self._end_behind, reason)
        else:
            self.end(reason)

    def _happens(self, chance: float) -> bool:
        return happens(self._transport.random, chance)

    def _draw_time(self, longest_s: float) -> float:
        return draw_time(self._transport.random, longest_s)

    def _fail(self, reason: str) -> None:
        self.end(reason)
        raise TransportError(reason)

    def _straggle(self, frames: Sequence[Frame]) -> None:
        """Bring frames to the broker after this link has died: in order, and behind what others sent meanwhile."""

        def arrive() -> None:
            for frame in frames:
                self._broker.publish(frame)

        asyncio.get_running_loop().call_later(self._draw_time(self._transport.faults.straggle_s), arrive)

    def _spoil(self, batch: list[Frame | Lost]) -> list[Frame | Lost]:
        """Replace what is lost by `Lost`, and double what comes twice."""
        faults = self._transport.faults
        if not faults.lose and not faults.copy:
            return batch
        spoilt: list[Frame | Lost] = []
        for item in batch:
            if self._happens(faults.lose):
                channel = item.channel if isinstance(item, Lost) else item[0]
                spoilt.append(Lost(channel, "the faulty transport lost a frame", missed=1))
            else:
                spoilt += [item, item] if self._happens(faults.copy) else [item]
        return spoilt

    async def _stand_in_line(self) -> None:
        """Return once everything on its way to this link has been read; raise when it is dead."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = self._line.put_confirmation(waiter, self._draw_time(self._transport.faults.deliver_s))
        try:
            if self._dead is None:
                await self._pauses.wait(waiter)
        finally:
            self._line.give_up(place)
        self._check()

    async def _forever_if(self, hangs: bool) -> None:  # noqa: FBT001 -- reads as a sentence
        """Wait for the link's death, if it hangs."""
        if hangs:
            await self._pause(None)

    async def _pause(self, seconds: float | None) -> None:
        """Wait so many seconds, None: for ever; raise as soon as the link is dead."""
        if seconds != 0 and self._dead is None:
            await self._pauses.wait_for(seconds)
        self._check()

    def _check(self) -> None:
        if self._dead is not None:
            raise TransportError(self._dead)


def _by_node(channels: Sequence[str], nodes: int) -> list[list[str]]:
    """Return the channels of each node; without nodes each channel stands by itself."""
    if not nodes:
        return [[channel] for channel in channels]
    groups: dict[int, list[str]] = {}
    for channel in channels:
        # The same in every run: the hash of a text is not.
        groups.setdefault(sum(channel.encode()) % nodes, []).append(channel)
    return list(groups.values())
