"""From a link's batches to this pod's sinks and gaps: `Receiver`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from backplane_core._inbound.gap_notifier import GapNotifier
from backplane_core._inbound.own_beats import OwnBeats
from backplane_core._inbound.reader import Reader
from backplane_core._inbound.subscriptions import Subscriptions
from backplane_core._inbound.verifier import Verifier
from backplane_core._inbound.watermark import Watermark
from backplane_core._local.delivery import Delivery
from backplane_core._local.registry import Registry
from backplane_core._protocol.frame import FRAME_OVERHEAD_BYTES
from backplane_core._protocol.heartbeat import Heartbeat
from backplane_core._protocol.own_frames import OwnFrames
from backplane_core._protocol.peers import Peers
from backplane_core._protocol.sequence import Tracker
from backplane_core._protocol.signing import Signer
from backplane_core._runtime.reporter import Reporter
from backplane_core._runtime.system import System
from backplane_core.options import Settings
from backplane_core.transport import Frame, Lost

__all__ = ["Receiver"]


class Receiver:
    """Takes what one link after another brings: verifies, reads, delivers, and reports what is missing.

    Args:
        own: How this pod's own frames are recognized.
        settings: Of the backplane.
        system: The clocks.
        reporter: Counts, and notifies the host.
        registry: Knows this pod's connections.
        delivery: Hands events to them.
        peers: Knows the other pods.
        subscriptions: Knows what is heard.
        watermark: Knows up to when everything was received.
        heartbeat: Decides whether the link is deaf.
        signer: Verifies what comes in; None: it is taken as it is.
    """

    def __init__(
        self,
        *,
        own: OwnFrames,
        settings: Settings,
        system: System,
        reporter: Reporter,
        registry: Registry,
        delivery: Delivery,
        peers: Peers,
        subscriptions: Subscriptions,
        watermark: Watermark,
        heartbeat: Heartbeat,
        signer: Signer | None,
    ) -> None:
        self._system = system
        self._registry = registry
        self._subscriptions = subscriptions
        self._watermark = watermark
        self._heartbeat = heartbeat
        self._tracker = _make_tracker(settings)
        self._gaps = GapNotifier(reporter, system, subscriptions)
        self._own_beats = OwnBeats(subscriptions.shared, heartbeat, peers, watermark, system)
        self._verifier = (
            None if signer is None else Verifier(signer, own, settings.max_event_bytes + FRAME_OVERHEAD_BYTES, reporter)
        )
        self._reader = Reader(
            own=own,
            system=system,
            registry=registry,
            delivery=delivery,
            tracker=self._tracker,
            peers=peers,
            heartbeat=heartbeat,
            own_beats=self._own_beats,
            gaps=self._gaps,
            reporter=reporter,
            max_event_bytes=settings.max_event_bytes,
            needs_seq=signer is not None,
        )
        # Held while a reconnect is reported: what the link brings meanwhile comes behind it.
        self._reporting = asyncio.Lock()
        self._was_live = False

    async def take(self, batch: Sequence[Frame | Lost]) -> None:
        """Deliver what arrived, in order, and report what is missing in it."""
        self._watermark.heard_at = self._system.monotonic()
        self._heartbeat.received()
        # A frame of the new link proves that its subscriptions hold: the gap ends here, before anything newer.
        if self._watermark.ends_with_frame():
            await self._report_reconnect()
        elif self._reporting.locked():
            async with self._reporting:
                pass
        self._tracker.now = self._watermark.at
        await self._reader.process(batch if self._verifier is None else self._verifier.verified(batch))

    async def live(self) -> None:
        """Record that the link went live, and report what was missed until then."""
        if self._watermark.live(self._system.monotonic()):
            await self._report_reconnect()
        self._was_live = True

    def lost(self, reason: str, doubted_since: float | None) -> None:
        """Record that the link died.

        Args:
            reason: Why, for people.
            doubted_since: Since when (monotonic) even what the link proved is in doubt; None: it holds.
        """
        self._watermark.lost(f"the link was replaced: {reason}", doubted_since)
        # Who leaves a node that is deposed, or cut off, later than we do may send in vain after our gap's end.
        self._tracker.cut(told=doubted_since is None)

    def unsubscribed(self, channels: Iterable[str]) -> None:
        """Record that the link left these channels: their numbers start afresh when they are heard again."""
        for channel in channels:
            self._tracker.forget_channel(channel)

    def expire(self, now: float) -> None:
        """Forget pods that were silent for long."""
        self._tracker.expire(now)

    def close(self) -> None:
        """Notify now of what was held back, and leave no timer behind."""
        self._gaps.close()

    @property
    def last_beat_at(self) -> float | None:
        """When this pod last heard itself, Unix time in seconds; None: it never did."""
        return self._own_beats.last_heard_at

    async def _report_reconnect(self) -> None:
        """Report the span that ends now."""
        async with self._reporting:
            now = self._system.monotonic()
            since = self._watermark.end(now, settling=self._subscriptions.settling)
            entries = list(self._registry.connections.values())
            # Who attached before the first link went live has missed something; the pod itself has not yet.
            if self._subscriptions.hears and (entries or self._was_live):
                await self._gaps.report_reconnect(entries, since, now, self._watermark.reason)


def _make_tracker(settings: Settings) -> Tracker:
    if settings.signing_keys is None:
        return Tracker(settings.origin_ttl_s)
    # A frame may be signed origin_ttl_s ahead of our clock and is taken until so long behind it: its number must be
    # known for that long, from when it was heard, which is at most two probes after the last proof that it was.
    return Tracker(2 * (settings.origin_ttl_s + settings.probe_interval_s), keeps_left=True)
