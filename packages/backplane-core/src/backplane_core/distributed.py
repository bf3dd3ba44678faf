"""Every pod of a fleet: `DistributedBackplane` delivers over any `Transport`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Self, Unpack

from attrs import evolve

from backplane_core._inbound.hearing import Hearing
from backplane_core._inbound.reader import Pod, Reader
from backplane_core._inbound.subscriptions import Subscriptions
from backplane_core._inbound.verifier import Verifier
from backplane_core._inbound.watermark import Watermark
from backplane_core._link.supervisor import LinkSupervisor, Owner
from backplane_core._local.registry import Entry
from backplane_core._outbound.in_doubt import InDoubt
from backplane_core._outbound.sender import Sender
from backplane_core._protocol.frame import FRAME_OVERHEAD_BYTES, decode_head
from backplane_core._protocol.peers import Peers
from backplane_core._protocol.routing import make_routing
from backplane_core._protocol.sequence import Tracker
from backplane_core._protocol.signing import Signer
from backplane_core._runtime.logging import logger
from backplane_core.base import BaseBackplane
from backplane_core.errors import ClosedError, EnvelopeError
from backplane_core.observe import Gap, LinkChanged, Readiness, Stats
from backplane_core.options import Options
from backplane_core.target import Target
from backplane_core.transport import Frame, Lost, Transport

__all__ = ["DistributedBackplane"]


class DistributedBackplane(BaseBackplane):
    """A backplane that reaches the connections of every pod on the same broker and channel.

    It replaces a dead link for as long as it takes, with growing waits; sends again what the broker had not confirmed;
    and reports what may have been missed as a `Gap`. Local delivery depends on none of that.

    Args:
        transport: Opens links to the broker.
        options: See `Options`.

    Raises:
        ConfigurationError: An option is unknown, or its value is not allowed.
    """

    # A process that only publishes subscribes to nothing; see publisher.py.
    _hears: bool = True
    _outlives_loops = False

    def __init__(self, transport: Transport, **options: Unpack[Options]) -> None:
        super().__init__(**options)
        settings, monotonic = self._settings, self._system.monotonic
        origin = self._system.new_name()
        self._routing = make_routing(settings.routing, settings.channel, settings.lanes)
        self._fleet = Peers(self._routing, settings.origin_ttl_s, self._reporter)
        signer = self._make_signer()
        self._sender = Sender(origin, self._routing, settings, self._fleet, self._reporter, signer)
        self._send = self._sender.send
        self._tracker = self._make_tracker()
        self._hearing = Hearing()
        self._watermark = Watermark(monotonic())
        self._subscriptions = Subscriptions(
            self._routing, tuple(self._routing.base) if self._hears else (), self._registry.holds
        )
        self._reader = Reader(
            Pod(
                monotonic=monotonic,
                origin=origin,
                prefix=self._sender.prefix,
                beat_suffix=self._sender.beat_suffix,
                heard=self._on_own_beat,
                missed=self._on_missed,
                behind=self._on_behind,
            ),
            self._registry,
            self._delivery,
            self._tracker,
            self._fleet,
            self._reporter,
            settings.max_event_bytes,
            needs_seq=signer is not None,
        )
        self._verifier = None if signer is None else self._make_verifier(signer)
        self._supervisor = LinkSupervisor(
            transport,
            settings,
            self._system,
            self._sender,
            self._subscriptions,
            self._hears,
            Owner(
                live=self._on_live,
                lost=self._on_lost,
                moved=self._on_moved,
                can_deduplicate=self._can_deduplicate,
                batch=self._on_batch,
                proved=self._on_proved,
                beat=self._beat,
                subscribed=self._hearing.wake,
                unsubscribed=self._on_unsubscribed,
                settled=self._watermark.settled,
            ),
        )
        self._transport = transport
        self._telling = asyncio.Lock()
        self._closing: asyncio.Future[None] | None = None
        self._last_beat: float | None = None

    # What signing adds

    def _make_signer(self) -> Signer | None:
        settings = self._settings
        if settings.signing_keys is None:
            return None
        if settings.signing_keys.short:
            logger.warning(
                "a signing key is shorter than 16 bytes: whoever hears the bus may find it; draw 32 at random"
            )
        return Signer(settings.signing_keys, settings.origin_ttl_s, self._system)

    def _make_tracker(self) -> Tracker:
        settings = self._settings
        if settings.signing_keys is None:
            return Tracker(settings.origin_ttl_s)
        # A frame may be signed origin_ttl_s ahead of our clock and is taken until so long behind it: its number must be
        # known for that long, from when it was heard, which is at most two probes after the last proof that it was.
        return Tracker(2 * (settings.origin_ttl_s + settings.probe_interval_s), keeps_left=True)

    def _make_verifier(self, signer: Signer) -> Verifier:
        return Verifier(
            signer,
            self._sender.prefix,
            self._sender.beat_suffix,
            self._settings.max_event_bytes + FRAME_OVERHEAD_BYTES,
            self._reporter,
        )

    # Life

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def open(self) -> None:
        """Connect, and return once this pod is receiving. `async with` does the same, and closes at the end.

        Raises:
            TransportError: The broker can't be reached within `connect_timeout_s`, or refuses for good.
            AuthenticationError: The broker refused the credentials.
            ClosedError: The backplane was opened or closed before; create a new one.
            WrongLoopError: Called outside of the backplane's event loop.

        Cancellation: leaves nothing behind; the backplane is closed.
        """
        self._home.check()
        if self._supervisor.running or self._states.now != "connecting":
            raise ClosedError("a backplane is opened once: make another")
        self._watermark.begin(self._system.monotonic())
        try:
            await self._supervisor.start()
        except BaseException:
            await self._stop("it could not connect")
            raise

    def ready(self) -> Readiness:
        """Return whether this pod receives what others publish, or since when not and why; for a readiness probe."""
        if self._states.now == "live":
            return Readiness(live=True, last_beat=self._last_beat)
        ending = self._states.now in {"draining", "closed"}
        deaf_since = self._watermark.deaf_since
        return Readiness(
            live=False,
            deaf_since=self._system.wall() if deaf_since is None else self._system.wall_at(deaf_since),
            reason=f"the backplane is {self._states.now}" if ending else self._supervisor.reason,
            last_beat=self._last_beat,
        )

    def stats(self) -> Stats:
        """Return a snapshot of this pod's counters."""
        outbox = self._sender.outbox
        return evolve(
            super().stats(), sent=outbox.confirmed, outbox_messages=outbox.messages, outbox_bytes=outbox.bytes
        )

    async def flush(self, timeout_s: float | None = None) -> None:
        """Return once the broker has confirmed everything that was accepted before, or it was dropped and counted.

        Args:
            timeout_s: Seconds to wait; None: as long as it takes.

        Raises:
            TimeoutError: Not everything was confirmed within `timeout_s`; says how many frames are left.
            WrongLoopError: Called outside of the backplane's event loop.
        """
        self._home.check()
        await self._sender.flush(timeout_s, lambda: self._supervisor.reason)

    async def drain(self, timeout_s: float | None = None) -> None:
        """Refuse publishes and connections from now on, end the connections, flush, and leave the link up.

        Args:
            timeout_s: Seconds to wait for the flush; None: as long as it takes.

        Raises:
            TimeoutError: Not everything was confirmed within `timeout_s`; says how many frames are left.
            WrongLoopError: Called outside of the backplane's event loop.
        """
        self._home.check()
        if self._states.now == "live":
            self._beat()  # marks the end, so that a lost tail is noticed
        await super().drain(timeout_s)

    async def aclose(self, drain_s: float = 5.0) -> None:
        """Drain, then close: no task, socket or subscription is left. Closing it again is a no-op.

        Args:
            drain_s: Seconds for which it may go on sending what was accepted; what is left then is counted as
                `dropped["closed"]`.

        Raises:
            WrongLoopError: Called outside of the backplane's event loop.

        Cancellation: gives up draining and closes at once.
        """
        if self._states.now == "closed":
            return
        self._home.check()
        if self._closing is not None:
            await asyncio.shield(self._closing)
            return
        self._closing = asyncio.get_running_loop().create_future()
        try:
            # Never opened: nobody would send what waits.
            await self.drain(drain_s if self._supervisor.running else 0)
        except TimeoutError as error:
            logger.warning("closing: %s", error)
        finally:
            try:
                await self._stop("aclose() was called")
            finally:
                self._closing.set_result(None)

    async def confirm(self, targets: Sequence[Target]) -> bool:
        """Wait until the broker confirmed that all of these are heard; False at once while the link is down."""
        channels = [channel for target in targets if (channel := self._routing.interest(target)) is not None]
        for channel in channels:
            if self._states.now != "live":
                return False
            if not self._subscriptions.confirmed(channel):
                await self._hearing.wait(channel)
        return self._states.now == "live" and all(map(self._subscriptions.confirmed, channels))

    async def _stop(self, reason: str) -> None:
        try:
            await self._supervisor.stop()
        finally:
            self._sender.close()
            self._hearing.wake_all()
            self._finish(reason)

    # Out: publish -> sender -> link

    async def _end_turn(self) -> None:
        await self._turn.end()
        if self._sender.crowded and self._states.now == "live":
            await self._sender.room(self._settings.publish_wait_s)

    def _beat(self) -> None:
        if self._states.now == "closed":
            return
        now = self._system.monotonic()
        if self._sender.beat(now):
            self._supervisor.pulse.beat(self._sender.next_number)
        self._tracker.expire(now)

    # Up and down: the link's life

    def _on_edge(self, target: Target) -> None:
        channel = self._subscriptions.touch(target)
        if channel is None:
            return
        if not self._registry.holds(target):
            self._hearing.wake([channel])
        elif not self._subscriptions.confirmed(channel):
            self._watermark.asked(self._system.monotonic())
        self._supervisor.subscribe_soon()

    def _on_unsubscribed(self, channels: Sequence[str]) -> None:
        for channel in channels:
            self._tracker.forget_channel(channel)

    async def _on_live(self) -> None:
        self._counters.links += 1
        if self._watermark.live(self._system.monotonic()):
            await self._tell_reconnect()
        self._reporter.report(LinkChanged(live=True, reason=self._supervisor.reason, links=self._counters.links))
        if self._states.now in {"connecting", "degraded"}:
            self._states.enter("live", "connected")
        self._beat()

    def _on_lost(self, doubt: InDoubt | None) -> None:
        reason = self._supervisor.reason
        self._watermark.lost(f"the link was replaced: {reason}", None if doubt is None else doubt.since)
        # Who leaves a node that is deposed, or cut off, later than we do may send in vain after our gap's end.
        self._tracker.cut(told=doubt is None)
        if doubt is not None:
            self._tell_doubt(doubt)
        self._fleet.link_lost()
        # A pod that can't tell copies must not get any: what was in flight is then counted, and a hole for the others.
        self._sender.link_lost(resend=self._can_deduplicate())
        self._reporter.report(LinkChanged(live=False, reason=reason, links=self._counters.links))
        if self._states.now == "live":
            logger.warning("the link is lost, local delivery goes on: %s", reason)
            self._states.enter("degraded", reason)
        self._hearing.wake_all()

    def _tell_doubt(self, doubt: InDoubt) -> None:
        self._sender.tear(doubt.sent)
        if doubt.in_vain:
            for channel, events in doubt.sent.items():
                if events:
                    self._reporter.report_dropped("doubted", channel, events)

    def _on_moved(self, reason: str) -> None:
        self._counters.links += 1
        self._fleet.link_lost()
        self._reporter.report(LinkChanged(live=True, reason=f"moved: {reason}", links=self._counters.links))

    def _can_deduplicate(self) -> bool:
        return self._fleet.can_deduplicate(self._system.monotonic())

    def _on_proved(self, written_at: float) -> None:
        self._watermark.proved(self._supervisor.surely(written_at))

    # In: link -> reader -> sinks and gaps

    async def _on_batch(self, batch: Sequence[Frame | Lost]) -> None:
        self._watermark.heard_at = self._system.monotonic()
        self._supervisor.pulse.received()
        # A frame of the new link proves that its subscriptions hold: the gap ends here, before anything newer.
        if self._watermark.ends_with_frame():
            await self._tell_reconnect()
        elif self._telling.locked():
            async with self._telling:
                pass
        self._tracker.now = self._watermark.complete_at
        await self._reader.process(batch if self._verifier is None else self._verifier.verified(batch))

    async def _tell_reconnect(self) -> None:
        """Tell of the span that ends now; what the link reads meanwhile waits."""
        async with self._telling:
            now, wall = self._system.monotonic(), self._system.wall()
            since = wall - (now - self._watermark.end(now, settling=self._subscriptions.settling))
            entries = list(self._registry.connections.values())
            # Who attached before the first link went live has a span to hear of; the pod itself has missed nothing yet.
            if not self._hears or (self._states.now == "connecting" and not entries):
                return
            channel, reason = self._routing.shared, self._watermark.reason
            gap = Gap(channel=channel, cause="reconnect", reason=reason, since=since, until=wall)
            self._reporter.report_gap(gap)
            if not await self._gaps.tell_all(entries, gap) and self.on_gap is None:
                logger.warning(
                    "events of the last %.1f s may be missed on %s, and nobody listens: set on_gap",
                    gap.until - gap.since,
                    gap.channel,
                )

    def _on_missed(self, channel: str | None, since: float, count: int | None, reason: str) -> None:
        gap = Gap(
            channel=channel or self._routing.shared,
            cause="sequence",
            reason=reason,
            since=self._system.wall_at(since),
            until=self._system.wall(),
            missed=count,
        )
        if not self._supervisor.beats_prove and channel in {None, self._routing.shared}:
            self._supervisor.pulse.missed()
        self._reporter.report_gap(gap)
        self._gaps.tell_hole(gap, lambda: self._listeners(channel))

    def _listeners(self, channel: str | None) -> Sequence[Entry]:
        """Return the connections that a channel's frames may have been for."""
        everybody = list(self._registry.connections.values())
        if channel is None or channel == self._routing.shared:
            return everybody
        target = self._subscriptions.target(channel)
        if target is not None:
            return self._registry.entries(target)
        # A lane: many targets share it.
        return [
            entry
            for entry in everybody
            if any(
                self._routing.channel((target,)) == channel
                for target in (Target.connection(entry.conn_id), *(entry.targets or ()))
            )
        ]

    def _on_own_beat(self, channel: str, payload: bytes) -> None:
        self._last_beat = self._system.wall()
        self._supervisor.pulse.heard()
        if channel == self._routing.shared:
            try:
                head = decode_head(payload)
            except EnvelopeError:
                return  # not from any pod: only our prefix and suffix are ours
            sent_at = self._fleet.beat_heard(head.origin, head.seq or 0)
            if sent_at is not None and self._supervisor.beats_prove:
                self._on_proved(sent_at)

    def forked(self) -> None:
        """This is a child: what waits is the parent's to send."""
        super().forked()
        self._sender.abandon()

    def _on_behind(self) -> None:
        self._supervisor.pulse.behind()
