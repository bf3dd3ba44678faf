"""A broker on a bad day, by seeded chance: `FaultyTransport` and the `Faults` that it draws from."""

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
    """What goes wrong, and how often. By default nothing does.

    A chance is from 0 to 1, per call. A time is the longest, in seconds; each one is drawn evenly from 0 to it.

    All of this happens with real brokers and networks. On one link frames stay in order, and none comes twice unless
    `copy` says so; but what a dead link still had on its way may arrive after what the next link sent (`straggle_s`).

    Args:
        open_s: Time to connect.
        refuse_open: Chance that the broker can't be reached.
        hang_open: Chance that connecting never ends.
        subscribe_s: Time until a subscription is confirmed; frames may arrive before.
        hang_subscribe: Chance that the broker subscribes the link and never confirms it.
        cut_subscribe: Chance that the link dies instead of confirming, before or after the broker subscribed it.
        send_s: Time for frames to reach the broker.
        confirm_s: Time for their confirmation to come back.
        cut_before: Chance that the link dies with none of the frames at the broker.
        cut_within: Chance that it dies with some of them at the broker, the first ones.
        cut_after: Chance that it dies with all of them at the broker, and the confirmation lost.
        hang_confirm: Chance that the broker takes the frames and never confirms them.
        straggle_s: Time after which frames that a dead link did not bring to the broker arrive there nevertheless, in
            addition to the copies that the next link sends. 0: they never arrive.
        deliver_s: Time for frames from the broker to this link.
        lose: Chance that a frame is lost on the way to this link, which says so (`Lost`).
        copy: Chance that a frame comes twice in a row; none of the brokers that we support does that.
        reset: Chance that a link that dies loses what it had received and nobody had read yet, as well as what was on
            its way.
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
    """A `MemoryTransport` whose links fail: by chance, as `faults` says, and when a test makes them.

    The same seed and the same calls give the same faults; under an event loop with a clock of its own a whole run
    repeats.

    Args:
        broker: Shared with other transports; None: one of its own.
        traits: In place of the defaults, to act as a broker with limits. With `single_stream` the confirmations of
            sends come behind the frames that are on their way, and a deaf link gets none; without it they come by
            themselves.
        faults: What goes wrong; None: nothing.
        random: Where chance comes from; None: `Random(0)`.
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
        self.faults: Faults = Faults() if faults is None else faults
        """What goes wrong from now on; may be replaced at any time."""
        self.random: Random = Random(0) if random is None else random  # noqa: S311 -- a test's chance, to be repeated
        """Where chance comes from."""
        self._links: dict[FaultyLink, None] = {}  # a set that keeps its order, or no run would repeat

    async def open(self) -> Link:
        """Open a link, or fail to.

        Raises:
            TransportError: The broker is cut, or chance says so.
        """
        await asyncio.sleep(_drawn_time(self.random, self.faults.open_s))
        if _happens(self.random, self.faults.hang_open):
            await asyncio.get_running_loop().create_future()
        if _happens(self.random, self.faults.refuse_open):
            raise TransportError("the faulty transport refuses to connect")
        link = self._make_link()
        link.enter()
        self._links[link] = None
        return link

    def _make_link(self) -> FaultyLink:
        """Return a link that is not open yet; for subclasses that watch theirs."""
        return FaultyLink(self)

    def cut(self, reason: str = "the connection was cut") -> None:
        """Kill this transport's links; other transports on its broker keep theirs.

        Args:
            reason: Why, as it appears in logs, records and gaps.
        """
        for link in list(self._links):
            link.die(reason)

    def deafen(self) -> None:
        """Deliver no frames to its links from now on, as a demoted replica does; all else works, and new links hear."""
        for link in self._links:
            link.deafen()

    def silence(self) -> None:
        """Deliver nothing to its links from now on, not even confirmations; what they send still arrives."""
        for link in self._links:
            link.deafen()
            link.answered = False

    def half_open(self) -> None:
        """Let nothing pass on its links from now on, in either direction, and let nothing say so."""
        self.silence()
        for link in self._links:
            link.muted = True

    def _forget(self, link: FaultyLink) -> None:
        """Remove a link that ended."""
        self._links.pop(link, None)


def _happens(random: Random, chance: float) -> bool:
    """Draw whether something of this chance happens."""
    return chance > 0 and random.random() < chance


def _drawn_time(random: Random, longest_s: float) -> float:
    """Draw a time of at most so many seconds."""
    return random.uniform(0, longest_s) if longest_s else 0.0


class FaultyLink(MemoryLink):
    """A link of a `FaultyTransport`.

    Args:
        transport: Which transport opens it.
    """

    def __init__(self, transport: FaultyTransport) -> None:
        super().__init__(transport.broker)
        self.transport = transport
        self.deaf = False
        self.answered = True
        self.muted = False
        # Frames on their way to this link, and when the last of them arrives.
        self._line: deque[Frame] = deque()
        self._due = 0.0
        # Confirmations that stand among them, by the id of what stands there.
        self._confirmations: dict[int, asyncio.Future[None]] = {}
        self._ending = False
        # The calls that wait for time to pass, or for the link's death.
        self._waiters: dict[asyncio.Future[None], None] = {}

    async def subscribe(self, channels: Sequence[str], *, after: str | None = None) -> None:
        """Subscribe to the channels, or die; the broker may do its part long before this link learns of it."""
        faults = self.transport.faults
        await self._pause(self._drawn_time(faults.subscribe_s))
        await self._forever_if(self.muted)
        cut = self._happens(faults.cut_subscribe)
        if cut and self._happens(0.5):
            self._fail("the connection was cut before the broker subscribed it")
        await super().subscribe(channels, after=after)
        await self._pause(self._drawn_time(faults.subscribe_s))
        if cut:
            self._fail("the connection was cut before the subscription was confirmed")
        await self._forever_if(self._happens(faults.hang_subscribe) or not self.answered)

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Unsubscribe from the channels; frames that were on their way still arrive."""
        await self._pause(self._drawn_time(self.transport.faults.subscribe_s))
        await self._forever_if(self.muted)
        await super().unsubscribe(channels)
        await self._forever_if(not self.answered)

    async def send(self, frames: Sequence[Frame]) -> None:
        """Bring the frames to the broker: all, some or none of them, or late, and perhaps without a confirmation."""
        faults, transport = self.transport.faults, self.transport
        frames = list(frames)  # core takes them back once this link is dead, and stragglers are still to come
        arrived = 0
        try:
            await self._turn()
            await self._pause(self._drawn_time(faults.send_s))
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
            await self._pause(self._drawn_time(faults.confirm_s))

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        """Yield what arrived, without what was lost on the way."""
        while True:
            if self._dead is None:
                await self._arrived.wait()
            self._arrived.clear()
            items, self._waiting = self._waiting, []
            batch = [item for item in items if not self._is_confirmation(item)] if self._confirmations else items
            if batch:
                yield self._spoil(batch)
            elif not items and self._dead is not None:
                raise TransportError(self._dead)

    def take(self, frame: Frame) -> None:
        """Put a frame on its way here, behind those that are on it."""
        self._line_up(frame)

    def _line_up(self, frame: Frame) -> None:
        loop, faults = asyncio.get_running_loop(), self.transport.faults
        due = max(self._due, loop.time() + self._drawn_time(faults.deliver_s))
        if due <= loop.time() and not self._line:
            self._arrive(frame)
        else:
            self._due = due
            self._line.append(frame)
            # Timers of one moment run in any order: each brings the frame whose turn it is.
            loop.call_at(due, lambda: self._arrive(self._line.popleft()))

    def _arrive(self, frame: Frame) -> None:
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
        reset = self._happens(self.transport.faults.reset)
        if reset:
            self._waiting.clear()
        if reset or not self._line:
            self.end(reason)
        else:
            self._ending = self.muted = True
            self._subscribers.leave(self)
            asyncio.get_running_loop().call_at(self._due, self._end_behind, reason)

    async def aclose(self) -> None:
        """Disconnect from the broker, and discard what is on its way."""
        self.end("closed")

    def end(self, reason: str) -> None:
        """Be dead from now on."""
        super().die(reason)
        self.transport._forget(self)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] -- two of one module
        for waiter in list(self._waiters):
            _wake(waiter)

    def _end_behind(self, reason: str) -> None:
        if self._line:
            asyncio.get_running_loop().call_soon(self._end_behind, reason)
        else:
            self.end(reason)

    def _happens(self, chance: float) -> bool:
        return _happens(self.transport.random, chance)

    def _drawn_time(self, longest_s: float) -> float:
        return _drawn_time(self.transport.random, longest_s)

    def _fail(self, reason: str) -> None:
        self.end(reason)
        raise TransportError(reason)

    def _straggle(self, frames: Sequence[Frame]) -> None:
        """Bring frames to the broker after this link has died: in order, and behind what others sent meanwhile."""

        def arrive() -> None:
            for frame in frames:
                self._broker.publish(frame)

        asyncio.get_running_loop().call_later(self._drawn_time(self.transport.faults.straggle_s), arrive)

    def _spoil(self, batch: list[Frame | Lost]) -> list[Frame | Lost]:
        """Replace what is lost by `Lost`, and double what comes twice."""
        faults = self.transport.faults
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
        place: Frame = ("", bytes(bytearray(1)))  # a new one each: a constant would be the same
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._confirmations[id(place)] = waiter
        self._waiters[waiter] = None
        self._line_up(place)
        try:
            if self._dead is None:
                await waiter
        finally:
            del self._waiters[waiter]
            self._confirmations.pop(id(place), None)
        if self._dead is not None:
            raise TransportError(self._dead)

    def _is_confirmation(self, item: Frame | Lost) -> bool:
        """Return whether it marks a confirmation's place in the line; if so, end the wait for it."""
        waiter = self._confirmations.pop(id(item), None)
        if waiter is None:
            return False
        _wake(waiter)
        return True

    async def _forever_if(self, hangs: bool) -> None:  # noqa: FBT001 -- reads as a sentence
        """Wait for the link's death, if it hangs."""
        if hangs:
            await self._pause(None)

    async def _pause(self, seconds: float | None) -> None:
        """Wait so many seconds, None: for ever; raise as soon as the link is dead."""
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
