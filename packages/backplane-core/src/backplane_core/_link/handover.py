"""Make before break: a link that its broker is about to close hands over to the next one, and nothing is missed.

    leaving ── open ── subscribe ── overlap ── last send, flush ── read on, send on ── close

`Handover` is a link made of one link after another. While two overlap, both are read: frames of the old link are passed
on, those of the next one are held until the old link has nothing left. Frames that came by both are then dropped as
copies, by their numbers. A channel that the next node refuses costs the others nothing: it is heard until the old link
is left, and reported then. A mark is a frame on a channel of its own: if it is sent through the old link and heard
through the next one, everything sent before it has reached the next node. What a move does next is decided by `Move`.

The invariant: every frame that the broker delivers on either link is yielded, those of the old link first.

An example, with NATS in lame duck mode. At 0.0 s the node announces that it leaves. At 0.6 s (a random wait of up to
1 s) this pod opens a link to another node and subscribes there to its 300 channels, by 0.7 s. It sends marks through
the old link, until one is heard through the next link, and reads both for a while. At 1.0 s sends pause, and a last
mark is sent. When it comes back on the old link, at 1.1 s, that has nothing left: the frames held since 0.7 s are
yielded, sends continue through the next link, and the old one is closed.

Without this, a rolling upgrade of the brokers would be a gap for every pod, and every client of the fleet would reload.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import suppress
from typing import Final, cast

from attrs import evolve

from backplane_core._link.backoff import Backoff
from backplane_core._link.handover_options import HandoverOptions
from backplane_core._link.marks import Marks, Sieve
from backplane_core._link.move import Action, Move
from backplane_core._link.next_link import NextLink
from backplane_core._link.open_links import OpenLinks
from backplane_core.errors import RefusedError, TransportError
from backplane_core.transport import Frame, LeavingLink, Link, Lost, Refusal

__all__ = ["Handover", "move_when_asked"]

SPREAD_S: Final = 1.0
"""All pods on a node learn at once that it leaves, and must not move to the others at once. NATS gives them 10 s."""


class Handover:
    """A `Link` that moves when its broker announces that it will close it. Unannounced, it dies like any other.

    Args:
        link: The first link.
        moving: What a move needs.
    """

    def __init__(self, link: LeavingLink, moving: HandoverOptions) -> None:
        self._moving = moving
        self._monotonic = moving.system.monotonic
        self._marks = Marks(moving.mark)
        # The link that is read and subscribed, and what is sifted out of it; the one that is sent through.
        self._link: Link = link
        self._sieve = Sieve(self._marks)
        self._sends: Link = link
        self._sending = asyncio.Lock()
        self._open = OpenLinks(link, moving)
        self._channels: dict[str, None] = {}
        self._reason = ""
        # While a move is under way; the next link until it took over.
        self._move: Move | None = None
        self._next: NextLink | None = None
        # Set when a move may take its next step.
        self._changed = asyncio.Event()
        self._reading = False
        self.holds_sends = False
        """Whether a move makes sends wait, so that the broker does not answer them."""

    @property
    def current(self) -> Link:
        """The link that is read now."""
        return self._link

    # What any link does

    async def subscribe(self, channels: Sequence[str]) -> None:
        """Subscribe on the link, and on the next one if there is one."""
        link, next_link = self._link, self._next
        self._channels.update(dict.fromkeys(channels))
        refused: dict[str, Refusal] = {}
        here = await _accepted(channels, refused, self._unless_moved(link, link.subscribe(channels)))
        if next_link is not None and here:
            there = await _accepted(here, refused, self._on_next(next_link, next_link.subscribe(here)))
            if len(there) < len(here):  # it would be lost with the move: who asks for it learns of that now
                await self._unless_moved(link, link.unsubscribe([channel for channel in here if channel in refused]))
        for channel in refused:
            self._channels.pop(channel, None)
        if refused:
            places = {channel: place for place, channel in enumerate(channels)}
            raise RefusedError([evolve(one, index=places[channel]) for channel, one in refused.items()])

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Unsubscribe on the link, and on the next one if there is one."""
        link, next_link = self._link, self._next
        for channel in channels:
            self._channels.pop(channel, None)
        await self._unless_moved(link, link.unsubscribe(channels))
        if next_link is not None:
            await self._on_next(next_link, next_link.unsubscribe(channels))

    async def send(self, frames: Sequence[Frame]) -> None:
        """Send through the link; wait while a move switches."""
        async with self._sending:
            await self._sends.send(frames)

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        """Yield what one link after another yields."""
        batches = self._link.receive()
        while True:
            async for batch in batches:
                if not self._sieve.is_working:
                    yield batch
                    continue
                if kept := self._sieve.sift(batch):
                    self._reading = True
                    yield kept
                    self._reading = False
                self._changed.set()
                if self._next is not None and self._move is not None and self._move.is_drained:
                    break
            else:
                return  # the link ended without saying why
            batches = self._take_over(self._next, self._move)

    def _take_over(self, next_link: NextLink, move: Move) -> AsyncIterator[list[Frame | Lost]]:
        """Make the next link the link, as everything that the old one had is passed on; return what it brings."""
        self._link, self._sieve, self._next = next_link.link, next_link.sieve, None
        next_link.release()
        self._moving.observer.moved(next_link.link, self._reason)
        for channel, reason in next_link.refused.items():
            self._channels.pop(channel, None)
            self._moving.observer.refused(channel, reason)
        move.took_over()
        self._changed.set()
        return next_link.receive()

    async def aclose(self) -> None:
        """Close all open links, each of them even if this is cancelled while closing another."""
        await self._open.aclose()

    async def _unless_moved(self, link: Link, asking: Awaitable[None]) -> None:
        try:
            await asking
        except RefusedError:
            raise
        except TransportError:
            if self._link is link:
                raise

    async def _on_next(self, next_link: NextLink, asking: Awaitable[None]) -> None:
        try:
            await asking
        except RefusedError:
            raise
        except TransportError as error:
            if self._link is next_link.link:
                raise
            next_link.fail(str(error))

    # Moves

    async def run(self) -> None:
        """Wait until the broker announces that it leaves, and move; repeat for ever.

        Raises:
            TransportError: The move failed when it was too late to stay, or copies can't be recognized.
        """
        while self._moving.transport.traits.announces_leave:
            self._reason = await cast("LeavingLink", self._link).leaving()
            await asyncio.sleep(self._moving.system.random.uniform(0, SPREAD_S))
            backoff = Backoff(self._moving.system.random)
            while True:
                if await self._try_to_move():
                    break
                await asyncio.sleep(backoff.lost(self._monotonic()))

    async def _try_to_move(self) -> bool:
        """Make one attempt and return whether it succeeded. If not, the old link stays in use."""
        self._check_copies()
        old, link = self._link, await self._open.open_next()
        if link is None:
            return False
        next_link = self._next = NextLink(link, self._marks, self._moving, dict(self._channels), self._changed)
        self._open.add(next_link)
        try:
            move = await self._overlap(old, next_link)
        except TransportError:
            self._next = self._move = None
            await next_link.stop()
            await self._open.close(link)
            return False
        await self._switch(old, next_link, move)
        await self._open.close(old)
        return True

    async def _overlap(self, old: Link, next_link: NextLink) -> Move:
        """Return once both links have been subscribed to everything for a while."""
        sieve = self._sieve
        sieve.begin()
        if not sieve.is_subscribed:
            await self._moving.patience.wait(old.subscribe([self._marks.channel]))
            sieve.is_subscribed = True
        await next_link.catch_up()
        move = Move(self._marks, sieve, next_link.sieve, self._moving.patience.timeout_s, self._monotonic())
        self._move = move
        while await self._follow(move, next_link, "pause") == "mark":
            async with self._sending:
                await self._send_mark(old)
        next_link.check()
        return move

    async def _switch(self, old: Link, next_link: NextLink, move: Move) -> None:
        """Read the next link once the old one has nothing left, and send through it from then on."""
        self.holds_sends = True
        try:
            async with self._sending:
                move.paused(self._monotonic())
                while await self._follow(move, next_link, "drain") == "mark":
                    await self._send_mark(old)
                self._check_copies()
                if not move.forwards:
                    next_link.lose(f"{self._reason}; it forwards nothing to the next one: frames may be missing")
                await self._drain(old, next_link, move)
                self._sends = next_link.link
        finally:
            self.holds_sends = False
        move.switched(self._monotonic())
        # All marks still on their way come before the last one; after that nothing needs to be sifted.
        await self._follow(move, next_link, "finish")
        self._move = None
        await self._moving.patience.wait(next_link.link.unsubscribe([self._marks.channel]))
        next_link.sieve.is_subscribed = False

    async def _follow(self, move: Move, next_link: NextLink, goal: Action) -> Action:
        """Return when a mark is to be sent, or the goal is reached.

        Raises:
            TransportError: The next link died, or the old one does not bring what it must.
        """
        while True:
            self._changed.clear()
            step = move.step(self._monotonic(), is_reading=self._reading)
            if step.action in {"mark", goal}:
                return step.action
            next_link.check()
            if step.action == "fail":
                raise TransportError("the broker does not answer: it is frozen, or the line is cut")
            with suppress(TimeoutError):
                async with asyncio.timeout(step.wait_s):
                    await self._changed.wait()

    async def _send_mark(self, old: Link) -> None:
        await self._moving.patience.wait(old.send([self._marks.next()]))

    async def _drain(self, old: Link, next_link: NextLink, move: Move) -> None:
        """Return once the last mark has come back on the old link, and the next one is read instead."""
        move.drain(self._monotonic())
        sending = asyncio.create_task(self._send_mark(old))
        try:
            await self._follow(move, next_link, "switch")
        finally:
            # Its answer may come after the mark, where nobody reads it.
            sending.cancel()
            await asyncio.wait({sending})
            _ = sending.cancelled() or sending.exception()

    def _check_copies(self) -> None:
        if not self._moving.peers.can_deduplicate(self._monotonic()):
            raise TransportError(
                f"{self._reason}; a move would bring copies, and unnumbered pods' copies can't be recognized"
            )


async def _accepted(channels: Sequence[str], refused: dict[str, Refusal], asking: Awaitable[None]) -> list[str]:
    """Await what subscribes to channels, and return those that were not refused; add the others to `refused`."""
    try:
        await asking
    except RefusedError as error:
        refused.update({channels[refusal.index]: refusal for refusal in error.refusals})
    return [channel for channel in channels if channel not in refused]


def move_when_asked(link: Link, moving: HandoverOptions) -> Link:
    """Return the link as one that moves when its broker leaves, if its transport can say so; else the link itself."""
    traits = moving.transport.traits
    if traits.announces_leave and not traits.durable:
        return Handover(cast("LeavingLink", link), moving)
    return link
