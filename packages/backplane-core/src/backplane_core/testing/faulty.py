"""A broker's bad days, by a seeded chance: `FaultyTransport` and the `Faults` that it draws from."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from random import Random
from typing import Final

from attrs import field, frozen
from attrs.validators import and_, ge, le

from backplane_core.errors import TransportError
from backplane_core.testing.memory import MemoryBroker, MemoryLink, MemoryTransport
from backplane_core.transport import Frame, Link, Lost, Traits

__all__ = ["Faults", "FaultyLink", "FaultyTransport"]

_chance: Final = and_(ge(0.0), le(1.0))


@frozen(kw_only=True)
class Faults:
    """How often what goes wrong. Chances are from 0 to 1, per call; times in seconds are the longest, evenly drawn.

    All of it is what real brokers and lines do. On one link nothing overtakes anything, and nothing comes twice unless
    `copy` says so; but what a dead link still had on its way may come after what the next link sent (`straggle_s`).

    Args:
        open_s: How long connecting takes.
        refuse_open: The broker can't be reached.
        hang_open: Connecting never ends.
        subscribe_s: How long a confirmation of interest takes; frames may come before it.
        hang_subscribe: The broker hears of the interest and never confirms it.
        cut_subscribe: The link dies instead of confirming, when the broker has heard of it or before.
        send_s: How long frames take to the broker.
        confirm_s: How long their confirmation takes back.
        cut_before: The link dies with none of the frames at the broker.
        cut_within: It dies with the first of them at the broker, and not all.
        cut_after: It dies with all of them at the broker, and the confirmation lost.
        hang_confirm: The broker takes the frames and never says so.
        straggle_s: Where above 0: frames that a dead link did not bring to the broker arrive so much later, beside the
            copies that the next link brings. 0: they never arrive.
        deliver_s: How long frames take from the broker to this link.
        lose: A frame is lost on the way here, and the link says so (`Lost`).
        copy: A frame comes twice in a row; no broker of ours does that.
        reset: A link that dies takes along what it had received and was not read yet, beside what was under way.
    """

    open_s: float = field(default=0.0, validator=ge(0.0))
    refuse_open: float = field(default=0.0, validator=_chance)
    hang_open: float = field(default=0.0, validator=_chance)
    subscribe_s: float = field(default=0.0, validator=ge(0.0))
    hang_subscribe: float = field(default=0.0, validator=_chance)
    cut_subscribe: float = field(default=0.0, validator=_chance)
    send_s: float = field(default=0.0, validator=ge(0.0))
    confirm_s: float = field(default=0.0, validator=ge(0.0))
    cut_before: float = field(default=0.0, validator=_chance)
    cut_within: float = field(default=0.0, validator=_chance)
    cut_after: float = field(default=0.0, validator=_chance)
    hang_confirm: float = field(default=0.0, validator=_chance)
    straggle_s: float = field(default=0.0, validator=ge(0.0))
    deliver_s: float = field(default=0.0, validator=ge(0.0))
    lose: float = field(default=0.0, validator=_chance)
    copy: float = field(default=0.0, validator=_chance)
    reset: float = field(default=0.0, validator=_chance)


class FaultyTransport(MemoryTransport):
    """A `MemoryTransport` whose links fail: by chance, as `faults` says, and when they are told to.

    `faults` may be set anew at any time. The same seed and the same calls give the same faults; under an event loop
    with a clock of its own the whole run repeats.

    Args:
        broker: Shared with other transports; None makes one.
        traits: Instead of the defaults, to play a broker with limits. With `single_stream` confirmations of sends come
            behind the frames that are under way, and a deaf link gets none; without, they come by themselves.
        faults: What goes wrong; nothing by default.
        random: The chance; None: one with the seed 0.
    """

    def __init__(
        self,
        broker: MemoryBroker | None = None,
        traits: Traits | None = None,
        *,
        faults: Faults | None = None,
        random: Random | None = None,
    ) -> None:
        super().__init__(broker, Traits() if traits is None else traits)
        self.faults = Faults() if faults is None else faults
        self.random = Random(0) if random is None else random  # noqa: S311 -- a test's chance, to be repeated
        self.links: dict[FaultyLink, None] = {}  # in order, or no run would repeat

    async def open(self) -> Link:
        """Open a link, or fail to.

        Raises:
            TransportError: The broker is cut, or chance says so.
        """
        await asyncio.sleep(self.upto(self.faults.open_s))
        if self.happens(self.faults.hang_open):
            await asyncio.get_running_loop().create_future()
        if self.happens(self.faults.refuse_open):
            raise TransportError("the faulty transport refuses to connect")
        link = self.make_link()
        self.broker.enter(link)
        self.links[link] = None
        return link

    def make_link(self) -> FaultyLink:
        """Return a link that is not open yet; for subclasses that watch theirs."""
        return FaultyLink(self)

    def cut(self, reason: str = "the line was cut") -> None:
        """Let this transport's links die; others on its broker live on."""
        for link in list(self.links):
            link.die(reason)

    def deafen(self) -> None:
        """Let its links get no frames from now on, as from a demoted replica; all else works. The next links hear."""
        for link in self.links:
            link.deafen()

    def go_unanswered(self) -> None:
        """Let its links get nothing at all from now on, confirmations included; what they send arrives."""
        for link in self.links:
            link.deafen()
            link.answered = False

    def half_open(self) -> None:
        """Let nothing pass on its links from now on, in either direction, and nothing say so."""
        self.go_unanswered()
        for link in self.links:
            link.muted = True

    def happens(self, chance: float) -> bool:
        """Draw."""
        return chance > 0 and self.random.random() < chance

    def upto(self, longest_s: float) -> float:
        """Draw a time."""
        return self.random.uniform(0, longest_s) if longest_s else 0.0


class FaultyLink(MemoryLink):
    """A link of a `FaultyTransport`."""

    def __init__(self, transport: FaultyTransport) -> None:
        super().__init__(transport.broker)
        self.transport = transport
        self.deaf = False
        self.answered = True
        self.muted = False
        # Frames under way to this link, and when the last of them is here.
        self._line: deque[Frame] = deque()
        self._due = 0.0
        # Confirmations that stand among them, by the id of what stands there.
        self._answers: dict[int, asyncio.Future[None]] = {}
        self._ending = False
        # Who waits for time to pass, or for the link's death.
        self._waiters: dict[asyncio.Future[None], None] = {}

    async def subscribe(self, channels: Sequence[str], *, after: str | None = None) -> None:
        """Hear the channels, or die; the broker may hear of it long before this link hears of that."""
        faults, transport = self.transport.faults, self.transport
        await self._pause(transport.upto(faults.subscribe_s))
        await self._forever_if(self.muted)
        cut = transport.happens(faults.cut_subscribe)
        if cut and transport.happens(0.5):
            self._fail("the line was cut before the broker heard of the interest")
        await super().subscribe(channels, after=after)
        await self._pause(transport.upto(faults.subscribe_s))
        if cut:
            self._fail("the line was cut before the interest was confirmed")
        await self._forever_if(transport.happens(faults.hang_subscribe) or not self.answered)

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Hear them no more; frames that were on their way still come."""
        await self._pause(self.transport.upto(self.transport.faults.subscribe_s))
        await self._forever_if(self.muted)
        await super().unsubscribe(channels)
        await self._forever_if(not self.answered)

    async def send(self, frames: Sequence[Frame]) -> None:
        """Bring the frames to the broker; or some of them, or none, or late, and perhaps without a confirmation."""
        faults, transport = self.transport.faults, self.transport
        frames = list(frames)  # core takes them back once this link is dead, and stragglers are still to come
        arrived = 0
        try:
            await self._turn()
            await self._pause(transport.upto(faults.send_s))
            await self._forever_if(self.muted)
            if transport.happens(faults.cut_before):
                self._fail("the line was cut before the frames were sent")
            cut = transport.happens(faults.cut_within)
            until = transport.random.randrange(len(frames)) if cut else len(frames)
            while arrived < until:
                self._broker.publish(frames[arrived])
                arrived += 1
            if cut:
                self._fail("the line was cut while the frames were sent")
        except BaseException:
            if faults.straggle_s:
                self._straggle(frames[arrived:])
            raise
        if transport.happens(faults.cut_after):
            self._fail("the line was cut before the frames were confirmed")
        await self._forever_if(transport.happens(faults.hang_confirm) or not self.answered)
        if transport.traits.single_stream:
            await self._stand_in_line()
        else:
            await self._pause(transport.upto(faults.confirm_s))

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        """Yield what arrived, less what was lost on the way."""
        while True:
            if self._dead is None:
                await self._arrived.wait()
            self._arrived.clear()
            items, self._waiting = self._waiting, []
            batch = [item for item in items if not self._is_answer(item)] if self._answers else items
            if batch:
                yield self._spoil(batch)
            elif not items and self._dead is not None:
                raise TransportError(self._dead)

    def take(self, frame: Frame) -> None:
        """A frame is on its way here, behind those that were on it before."""
        self._line_up(frame)

    def _line_up(self, frame: Frame) -> None:
        loop, faults = asyncio.get_running_loop(), self.transport.faults
        due = max(self._due, loop.time() + self.transport.upto(faults.deliver_s))
        if due <= loop.time() and not self._line:
            self._arrive(frame)
        else:
            self._due = due
            self._line.append(frame)
            # Timers of one moment run in any order: each brings the frame whose turn it is.
            loop.call_at(due, lambda: self._arrive(self._line.popleft()))

    def _arrive(self, frame: Frame) -> None:
        """It is here; a deaf link will never know, nor a dead one."""
        if not self.deaf:
            super().take(frame)

    def deafen(self) -> None:
        """Get no frames from now on, those under way included."""
        self.deaf = True
        self._waiting.clear()

    def die(self, reason: str) -> None:
        """End at the broker's side. The word of it comes behind what is under way to this link, or takes that along."""
        if self._dead is not None or self._ending:
            return
        reset = self.transport.happens(self.transport.faults.reset)
        if reset:
            self._waiting.clear()
        if reset or not self._line:
            self.end(reason)
        else:
            self._ending = self.muted = True
            self._broker.leave(self)
            asyncio.get_running_loop().call_at(self._due, self._end_behind, reason)

    async def aclose(self) -> None:
        """Leave the broker, and whatever is under way."""
        self.end("closed")

    def end(self, reason: str) -> None:
        """Be dead from now on."""
        super().die(reason)
        self.transport.links.pop(self, None)
        for waiter in list(self._waiters):
            _wake(waiter)

    def _end_behind(self, reason: str) -> None:
        if self._line:
            asyncio.get_running_loop().call_soon(self._end_behind, reason)
        else:
            self.end(reason)

    def _fail(self, reason: str) -> None:
        self.end(reason)
        raise TransportError(reason)

    def _straggle(self, frames: Sequence[Frame]) -> None:
        """Bring frames to the broker when this link is dead: in their order, and behind what others sent meanwhile."""

        def arrive() -> None:
            for frame in frames:
                self._broker.publish(frame)

        asyncio.get_running_loop().call_later(self.transport.upto(self.transport.faults.straggle_s), arrive)

    def _spoil(self, batch: list[Frame | Lost]) -> list[Frame | Lost]:
        """Replace what was lost, double what comes twice."""
        faults, transport = self.transport.faults, self.transport
        if not faults.lose and not faults.copy:
            return batch
        spoilt: list[Frame | Lost] = []
        for item in batch:
            if transport.happens(faults.lose):
                channel = item.channel if isinstance(item, Lost) else item[0]
                spoilt.append(Lost(channel, "the faulty transport lost a frame", missed=1))
            else:
                spoilt += [item, item] if transport.happens(faults.copy) else [item]
        return spoilt

    async def _stand_in_line(self) -> None:
        """Return once all that is under way to this link was read; raise when it is dead."""
        place: Frame = ("", bytes(bytearray(1)))  # a new one each: a constant would be the same
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answers[id(place)] = waiter
        self._waiters[waiter] = None
        self._line_up(place)
        try:
            if self._dead is None:
                await waiter
        finally:
            del self._waiters[waiter]
            self._answers.pop(id(place), None)
        if self._dead is not None:
            raise TransportError(self._dead)

    def _is_answer(self, item: Frame | Lost) -> bool:
        """Whether it is a confirmation's place in the line; if so, somebody's wait is over."""
        waiter = self._answers.pop(id(item), None)
        if waiter is None:
            return False
        _wake(waiter)
        return True

    async def _forever_if(self, hangs: bool) -> None:  # noqa: FBT001 -- reads as a sentence
        """Wait for the link's death."""
        if hangs:
            await self._pause(None)

    async def _pause(self, seconds: float | None) -> None:
        """Wait so long, None: for ever; raise as soon as the link is dead."""
        if seconds == 0 and self._dead is None:
            return
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, _wake, waiter)
        self._waiters[waiter] = None
        try:
            if self._dead is None:
                await waiter
        finally:
            del self._waiters[waiter]
            if timer is not None:
                timer.cancel()
        if self._dead is not None:
            raise TransportError(self._dead)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
