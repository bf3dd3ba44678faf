"""Make before break: a link that its broker is about to close hands over to the next one, and nothing is missed.

    leaving ── open ── subscribe ── overlap ── last send, flush ── read on, send on ── close

`Handover` is a link made of one link after another. While two overlap, both are read: frames of the old link are passed
on, those of the next one are held until the old link has nothing left. Frames that came by both are then dropped as
copies, by their numbers. A mark is a frame on a channel of its own: if it is sent through the old link and heard
through the next one, everything sent before it has reached the next node.

The invariant: every frame that the broker delivers on either link is yielded, those of the old link first.

An example, with NATS in lame duck mode. At 0.0 s the node announces that it leaves. At 0.6 s (a random wait of up to
1 s) this pod opens a link to another node and subscribes there to its 300 channels, by 0.7 s. It sends marks through
the old link, each 20 ms, until one is heard through the next link at 0.75 s, then reads both for 0.25 s. At 1.0 s sends
pause; a second mark is heard, 0.1 s pass, and a last mark is sent through the old link. When it comes back there, at
1.1 s, the old link has nothing left: the frames held since 0.7 s are yielded, sends continue through the next link, and
the old one is closed.

Without this, a rolling upgrade of the brokers would be a gap for every pod, and every client of the fleet would reload.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Final, Protocol, cast

from attrs import frozen

from backplane_core._link.backoff import Backoff
from backplane_core._link.next_link import NextLink, number_of, with_timeout
from backplane_core._link.proof import check_link
from backplane_core._protocol.peers import Peers
from backplane_core._runtime.faults import log_fault
from backplane_core._runtime.logging import logger
from backplane_core._runtime.system import System
from backplane_core._runtime.tasks import run_bounded
from backplane_core.errors import ConfigurationError, TransportError
from backplane_core.transport import Frame, LeavingLink, Link, Lost, Transport

__all__ = ["Handover", "HandoverOptions"]

SPREAD_S: Final = 1.0
"""All pods on a node learn at once that it leaves, and must not move to the others at once. NATS gives them 10 s."""

OVERLAP_S: Final = 0.25
"""How long both are read before the old one is flushed: the nodes of a cluster have to exchange subscriptions."""

PAUSE_S: Final = 0.1
"""How long sends pause at the switch, so that frames through the next node do not overtake those through the old."""

MARK_S: Final = 1.0
"""How long a mark may take; a node that is cut off from the others never forwards it."""

MARK_AGAIN_S: Final = 0.02
"""How often a mark is repeated: one that arrives before its subscription is known is lost."""

CLOSE_S: Final = 1.0


class MoveObserver(Protocol):
    """The user of the link, who must know about a move."""

    def moved(self, link: Link, reason: str) -> None:
        """Record that the next link takes over, before any frame that only it brought."""
        ...


@frozen(kw_only=True)
class HandoverOptions:
    """What a move needs.

    Args:
        transport: Opens the next link.
        mark: A channel that nobody else subscribes to.
        system: The clock, and the randomness that spreads a fleet's moves.
        peers: Knows whether all pods number their frames, so that frames that come by both links are known as copies.
        timeout_s: How long opening, and each answer of the next link, may take.
        observer: Notified of each move.
    """

    transport: Transport
    mark: str
    system: System
    peers: Peers
    timeout_s: float
    observer: MoveObserver


class Handover:
    """A `Link` that moves when its broker announces that it will close it. Unannounced, it dies like any other.

    Args:
        link: The first link.
        moving: What a move needs.
    """

    def __init__(self, link: LeavingLink, moving: HandoverOptions) -> None:
        self._moving = moving
        self._link: Link = link  # the link that is read and subscribed
        self._sends: Link = link
        self._sending = asyncio.Lock()
        self._open: dict[Link, None] = {link: None}
        self._closing: set[asyncio.Task[None]] = set()
        self._channels: dict[str, None] = {}
        self._successor: NextLink | None = None
        self._reading: asyncio.Task[None] | None = None
        self._reason = ""
        # Marks: how many were sent, the last one, the link that is subscribed to them, whether any may still come.
        self._marks = 0
        self._last_mark: int | None = None
        self._marked: Link | None = None
        self._sifting = False
        self._drained = False
        self._switched = asyncio.Event()
        self._settled = asyncio.Event()

    @property
    def current(self) -> Link:
        """The link that is read now."""
        return self._link

    # What any link does

    async def subscribe(self, channels: Sequence[str], *, after: str | None = None) -> None:
        """Subscribe on the link, and on the successor if there is one."""
        link, successor = self._link, self._successor
        self._channels.update(dict.fromkeys(channels))
        await self._unless_moved(link, link.subscribe(channels, after=after))
        if successor is not None:
            await self._on_successor(successor, successor.subscribe(channels))

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Unsubscribe on the link, and on the successor if there is one."""
        link, successor = self._link, self._successor
        for channel in channels:
            self._channels.pop(channel, None)
        await self._unless_moved(link, link.unsubscribe(channels))
        if successor is not None:
            await self._on_successor(successor, successor.unsubscribe(channels))

    async def send(self, frames: Sequence[Frame]) -> None:
        """Send through the link; wait while a move switches."""
        async with self._sending:
            await self._sends.send(frames)

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        """Yield what one link after another yields."""
        batches = self._link.receive()
        while True:
            async for batch in batches:
                if not self._sifting:
                    yield batch
                    continue
                if kept := self._sift(batch):
                    yield kept
                if self._successor is not None and self._drained:
                    break
            else:
                return  # the link ended without saying why
            successor = self._take_over(self._successor)
            if held := successor.take_held():
                yield held
            if self._reading is not None:
                await self._reading
            if held := successor.take_held():
                yield held
            successor.check()
            if successor.heard >= self._marks:
                self._sifting = False
                self._settled.set()
            batches = successor.batches

    def _sift(self, batch: list[Frame | Lost]) -> list[Frame | Lost]:
        """Return a batch without its marks, and notice the last mark."""
        kept: list[Frame | Lost] = []
        for item in batch:
            if isinstance(item, Lost) or item[0] != self._moving.mark:
                kept.append(item)
            elif number_of(item[1]) == self._last_mark:
                if self._successor is not None:
                    self._drained = True
                else:
                    self._sifting = False
                    self._settled.set()
        return kept

    def _take_over(self, successor: NextLink) -> NextLink:
        """Make the successor the link: everything that the old link had is passed on."""
        self._link = successor.link
        self._successor = None
        successor.release()
        self._moving.observer.moved(successor.link, self._reason)
        self._switched.set()
        return successor

    async def aclose(self) -> None:
        """Close all open links, each of them even if this is cancelled while closing another."""
        async with AsyncExitStack() as stack:
            if self._closing:
                stack.push_async_callback(asyncio.wait, [*self._closing])
            for link in self._open:
                stack.push_async_callback(_close_link, link)
            stack.push_async_callback(self._stop_reading)

    async def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})

    async def _unless_moved(self, link: Link, asking: Awaitable[None]) -> None:
        try:
            await asking
        except TransportError:
            if self._link is link:
                raise

    async def _on_successor(self, successor: NextLink, asking: Awaitable[None]) -> None:
        try:
            await asking
        except TransportError as error:
            if self._link is successor.link:
                raise
            successor.fail(str(error))

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
                if await self._move():
                    break
                await asyncio.sleep(backoff.lost(self._moving.system.monotonic()))

    async def _move(self) -> bool:
        """Make one attempt and return whether it succeeded. If not, the old link stays in use."""
        self._check_copies()
        try:
            async with asyncio.timeout(self._moving.timeout_s):
                link = await self._moving.transport.open()
        except (TransportError, TimeoutError):
            return False  # if the old link dies in the meantime, that is reported as usual
        except Exception as error:  # noqa: BLE001 -- as the supervisor does
            log_fault("the transport failed", error)
            return False
        try:
            check_link(self._moving.transport.traits, link)
        except ConfigurationError as error:
            logger.error("can't move: %s", error)
            await run_bounded(link.aclose(), CLOSE_S)
            return False
        old = self._link
        successor = NextLink(link, self._moving.mark, self._moving.timeout_s, dict(self._channels))
        self._open[link] = None
        self._reading = asyncio.create_task(successor.read(), name="backplane-successor")
        self._sifting, self._drained, self._last_mark, self._successor = True, False, None, successor
        self._switched.clear()
        self._settled.clear()
        try:
            passes = await self._overlap(old, successor)
        except TransportError:
            self._successor = None
            await self._stop_reading()
            await self._close(link)
            return False
        await self._switch(old, successor, passes=passes)
        await self._close(old)
        return True

    async def _overlap(self, old: Link, successor: NextLink) -> bool:
        """Return once both links have been subscribed to everything for a while: whether marks reach the successor."""
        if self._marked is not old:
            await with_timeout(old.subscribe([successor.mark]), self._moving.timeout_s)
            self._marked = old
        await successor.catch_up()

        async def send_mark() -> None:
            async with self._sending:
                await self._send_mark(old)

        passes = await self._mark_passes(successor, send_mark)
        await asyncio.sleep(OVERLAP_S)
        successor.check()
        return passes

    async def _switch(self, old: Link, successor: NextLink, *, passes: bool) -> None:
        """Read the successor once the old link has nothing left, and send through it from then on."""
        monotonic = self._moving.system.monotonic
        async with self._sending:
            began = monotonic()
            # A node that never forwarded a mark will not do so now: sends need not wait for it.
            passes = passes and await self._mark_passes(successor, partial(self._send_mark, old))
            # A slow network is slow for the others, too.
            await asyncio.sleep(max(PAUSE_S, monotonic() - began))
            self._check_copies()
            if not passes:
                successor.lose(f"{self._reason}; it forwards nothing to the next one: frames may be missing")
            await self._drain(old)
            self._sends = successor.link
        # All marks still on their way come before the last one; after that nothing needs to be sifted.
        with suppress(TimeoutError):
            async with asyncio.timeout(MARK_S):
                await self._settled.wait()
        await with_timeout(successor.link.unsubscribe([successor.mark]), self._moving.timeout_s)

    async def _mark_passes(self, successor: NextLink, send_mark: Callable[[], Awaitable[None]]) -> bool:
        """Return whether everything sent through the old link so far reaches the successor in time."""
        first = self._marks + 1
        successor.changed.clear()
        try:
            async with asyncio.timeout(MARK_S):
                while successor.heard < first:
                    successor.check()
                    await send_mark()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(MARK_AGAIN_S):
                            await successor.changed.wait()
                    successor.changed.clear()
        except TimeoutError:
            return False
        return True

    async def _send_mark(self, old: Link) -> None:
        self._marks += 1
        await with_timeout(old.send([(self._moving.mark, b"%d" % self._marks)]), self._moving.timeout_s)

    async def _drain(self, old: Link) -> None:
        """Return once the last mark has come back on the old link, and the successor is read instead."""
        self._last_mark = self._marks + 1
        sending = asyncio.create_task(self._send_mark(old))
        try:
            await with_timeout(self._switched.wait(), self._moving.timeout_s)
        finally:
            # Its answer may come after the mark, where nobody reads it.
            sending.cancel()
            await asyncio.wait({sending})
            _ = sending.cancelled() or sending.exception()

    def _check_copies(self) -> None:
        if not self._moving.peers.can_deduplicate(self._moving.system.monotonic()):
            raise TransportError(
                f"{self._reason}; a move would bring copies, and unnumbered pods' copies can't be recognized"
            )

    async def _close(self, link: Link) -> None:
        del self._open[link]
        closing = asyncio.create_task(run_bounded(link.aclose(), CLOSE_S))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        await asyncio.shield(closing)  # it is called once: if this is cancelled, `aclose` waits for it


async def _close_link(link: Link) -> None:
    await run_bounded(link.aclose(), CLOSE_S)
