"""From a link's batches to this pod's sinks and gaps: `Receiver`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from backplane_core._fleet.post import FleetPost
from backplane_core._inbound.admission import Admission
from backplane_core._inbound.coverage import Coverage
from backplane_core._inbound.cursors import Cursors
from backplane_core._inbound.gap_notifier import GapNotifier
from backplane_core._inbound.listening import Listening
from backplane_core._inbound.own_beats import OwnBeats
from backplane_core._inbound.reader import Reader
from backplane_core._inbound.refusals import Refusals
from backplane_core._inbound.stale_notice import StaleNotice
from backplane_core._inbound.subscriptions import Subscriptions
from backplane_core._inbound.verifier import Verifier
from backplane_core._inbound.watermark import Watermark
from backplane_core._local.delivery import Delivery
from backplane_core._local.registry import Registry
from backplane_core._local.traces import Traces
from backplane_core._protocol.event_ids import EventIds
from backplane_core._protocol.frame import FRAME_OVERHEAD_BYTES
from backplane_core._protocol.heartbeat import Heartbeat
from backplane_core._protocol.own_frames import OwnFrames
from backplane_core._protocol.peers import Peers
from backplane_core._protocol.sequence import Tracker
from backplane_core._protocol.signing import Signer
from backplane_core._runtime.logging import logger
from backplane_core._runtime.reporter import Reporter
from backplane_core._runtime.system import System
from backplane_core.observe import SubscriptionRefused
from backplane_core.options import Settings
from backplane_core.transport import Frame, Lost

__all__ = ["Receiver"]


PATIENCE_PROBES: Final = 2
"""Probe intervals without a frame of another pod that is accepted, while others are refused, until this pod says that
it is deaf. A pod that is idle beats once in its own, which is the same all over a fleet."""


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
        post: Takes what they say.
        subscriptions: Knows what is heard.
        watermark: Knows up to when everything was received.
        coverage: Knows which channels may have missed something.
        heartbeat: Decides whether the link is deaf.
        signer: Verifies what comes in; None: it is taken as it is.
        event_ids: Knows which events came before.
        cursors: How far the logs are read; None: the broker keeps none.
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
        post: FleetPost,
        subscriptions: Subscriptions,
        watermark: Watermark,
        coverage: Coverage,
        heartbeat: Heartbeat,
        signer: Signer | None,
        event_ids: EventIds,
        cursors: Cursors | None = None,
    ) -> None:
        self._system = system
        self._reporter = reporter
        self._registry = registry
        self._subscriptions = subscriptions
        self._watermark = watermark
        self._heartbeat = heartbeat
        self._coverage = coverage
        self._tracker = _make_tracker(settings)
        self._tracker.keeps_first = cursors is not None
        mirror = None if cursors is None else cursors.mirror
        self._gaps = GapNotifier(reporter, system, subscriptions, coverage, watermark)
        self._gaps.mirror = mirror
        self._stale = StaleNotice(
            stale_after_s=settings.stale_after_s,
            registry=registry,
            gaps=self._gaps,
            watermark=watermark,
            system=system,
            channel=subscriptions.shared,
        )
        self._own_beats = OwnBeats(
            subscriptions.shared, heartbeat, peers, counters=reporter.counters, watermark=watermark, system=system
        )
        self._refusals = Refusals(PATIENCE_PROBES * settings.probe_interval_s)
        max_frame_bytes = settings.max_event_bytes + FRAME_OVERHEAD_BYTES
        self._verifier = (
            None
            if signer is None
            else Verifier(
                signer=signer,
                own=own,
                max_frame_bytes=max_frame_bytes,
                reporter=reporter,
                refusals=self._refusals,
            )
        )
        self._admission = Admission(
            own=own,
            system=system,
            tracker=self._tracker,
            peers=peers,
            own_beats=self._own_beats,
            post=post,
            gaps=self._gaps,
            reporter=reporter,
            refusals=self._refusals,
            max_event_bytes=settings.max_event_bytes,
            needs_seq=signer is not None,
            mirror=mirror,
        )
        self._reader = Reader(
            own=own,
            system=system,
            registry=registry,
            delivery=delivery,
            tracker=self._tracker,
            admission=self._admission,
            heartbeat=heartbeat,
            post=post,
            gaps=self._gaps,
            coverage=coverage,
            counters=reporter.counters,
            max_event_bytes=settings.max_event_bytes,
            event_ids=event_ids,
            traces=Traces(reporter),
            mirror=mirror,
        )
        self._signer = signer
        self._cursors = cursors
        self.tracker = self._tracker
        """Knows the numbers that were heard."""
        self._listening = Listening()
        self._was_live = False
        self._lost_at = self._live_at = float("-inf")

    async def take(self, batch: Iterable[Frame | Lost]) -> None:
        """Deliver what arrived, in order, and report what is missing in it."""
        self._watermark.heard_at = self._system.monotonic()
        self._heartbeat.received()
        # What a link brings passed the broker after the link before it had died, although nothing proves more yet.
        self._tracker.read_at = self._watermark.heard_at
        self._tracker.now = max(self._watermark.at, self._lost_at)
        accepted = self._admission.accepted
        if self._cursors is not None:
            self._begin_log(self._watermark.heard_at)
            batch = self._cursors.passing(self._ahead_of_beats(batch))
        await self._reader.process(batch if self._verifier is None else self._verifier.verified(batch))
        if self._refusals.is_open:
            await self._judge_refusals(accepted=self._admission.accepted > accepted)

    def _ahead_of_beats(self, batch: Iterable[Frame | Lost]) -> Iterable[Frame | Lost]:
        """Return a batch of a log, in which a beat of our own stands behind all that the log still has for us.

        A pod that was cut off reads on for as long as that takes, and its link is not deaf meanwhile: if it were given
        up for that, a pod behind a slow line would begin again and again, and not come to the end.
        """
        if not self._heartbeat.waits:
            return batch
        frames, shared = list(batch), self._subscriptions.shared
        if any(type(frame) is tuple and frame[0] == shared for frame in frames):
            self._heartbeat.behind()
        return frames

    def _begin_log(self, now: float) -> None:
        """Prepare for frames of a log, which may be as old as the outage was long."""
        if self._listening.hears(now) and self._signer is not None:
            self._signer.late_s = self._listening.last_deaf_s
        self._tracker.now, self._tracker.read_at = self._watermark.at, self._listening.at(now)

    async def _judge_refusals(self, *, accepted: bool) -> None:
        now, refusals = self._system.monotonic(), self._refusals
        verdict = refusals.judge(now, self._watermark.at, accepted=accepted)
        if verdict == "refuses all" and refusals.since is not None:
            reason = f"everything that other pods send is refused, and what they publish is missed: {refusals.reason}"
            logger.error("%s", reason)
            self._watermark.refuse(refusals.since, reason)
            self._gaps.remember_refusals(reason)
            self._gaps.lost()
            self._coverage.lost(refusals.since)
            self._tracker.refuses_all(refusals.since)  # what is missing across it is in its gap
            self._stale.deaf(at_once=True)
        elif verdict == "accepts again":
            logger.warning("what other pods send is accepted again")
            self._gaps.remember_refusals("what other pods sent was refused")
            self._watermark.accept()
            self._tracker.accepts_again()
            self._stale.over()
            self._coverage.heard(self._subscriptions.confirmed_channels, now)
            await self.settled()

    async def live(self) -> None:
        """Record that the link went live: every channel is heard. Report what was missed until then."""
        self._live_at = self._system.monotonic()
        self._watermark.live(self._live_at)
        if not self._refusals.is_deaf:
            self._stale.over()
            await self.settled()
        self._was_live = True

    def subscribed(self, channels: Sequence[str]) -> None:
        """Record that the broker confirmed these channels."""
        now = self._system.monotonic()
        self._coverage.heard(channels, now)
        for channel in channels:
            self._tracker.heard(channel, now)

    def denied(self, channel: str, reason: str, *, is_news: bool) -> None:
        """Record that the broker refuses a channel.

        If that is news, report it, and notify the connections that don't wait for the broker's answer.
        """
        has_listeners = self._coverage.deny(channel)
        if not is_news:
            return
        self._reporter.report(SubscriptionRefused(channel=channel, reason=reason))
        if has_listeners:
            self._gaps.report_hole(channel, self._watermark.at, None, f"the channel is not heard: {reason}")

    def owe(self, denied: Iterable[tuple[str, float]]) -> None:
        """Record that channels which were refused since some moment are asked for again, and may be heard now."""
        for channel, since in denied:
            self._coverage.ask(channel, since, owed=True)

    async def settled(self) -> None:
        """Report what is owed, now that every channel that is wanted is heard."""
        owed = self._coverage.settled()
        if owed is None or self._refusals.is_deaf:  # it goes on until something is accepted
            return
        now = self._system.monotonic()
        first_heard = self._coverage.first_heard_of_all
        # Who attached before the first link went live has missed something; the pod itself has not yet.
        if self._subscriptions.hears and (self._registry.connections or self._was_live):
            await self._gaps.report_settled(owed, now)
        self._coverage.close()
        self._gaps.settled()
        if owed.channels is None:  # else there are connections that nothing was reported to
            # Those whose channel was heard early were notified up to then: what passed since may be on its way to us.
            self._watermark.reported(now if first_heard is None else first_heard)

    def opened_deaf(self) -> None:
        """Record that the pod was opened without a link."""
        self._stale.deaf()

    def lost(self, reason: str, doubted_since: float | None) -> None:
        """Record that the link died.

        Args:
            reason: Why, for people.
            doubted_since: Since when (monotonic) even what the link proved is in doubt; None: it holds.
        """
        at = self._watermark.at
        self._lost_at = self._system.monotonic()
        self._listening.lost(self._lost_at)
        if self._cursors is not None and self._cursors.cover(self._subscriptions.base):
            # The next link goes on where this one ended: nothing is missed, so nothing is owed, and holes still count.
            self._watermark.lost(f"the link was replaced: {reason}")
            return
        self._gaps.lost()
        self._coverage.lost(at if doubted_since is None else min(at, doubted_since))
        self._watermark.lost(f"the link was replaced: {reason}")
        self._stale.deaf()
        self._tracker.cut()

    def unsubscribed(self, channels: Iterable[str]) -> None:
        """Record that the link left these channels: what passes meanwhile is not missing."""
        now = self._system.monotonic()
        for channel in channels:
            self._tracker.leave(channel, now)

    def expire(self, now: float) -> None:
        """Forget pods that were silent for long."""
        self._tracker.expire(now if self._cursors is None else self._listening.at(now))
        if self._signer is not None and self._signer.late_s and now - self._live_at > self._signer.window_s:
            self._signer.late_s = 0.0  # what came late has come

    def close(self) -> None:
        """Notify now of what was held back, and leave no timer behind."""
        self._stale.over()
        self._gaps.close()

    @property
    def notified_of_outage(self) -> int:
        """How many connections were notified of what they missed since the link was lost."""
        return self._gaps.notified_of_outage

    @property
    def numbers_evicted(self) -> int:
        """How many numbers of other pods had to be forgotten before their time."""
        return self._tracker.numbers.evicted

    @property
    def last_beat_at(self) -> float | None:
        """When this pod last heard itself, Unix time in seconds; None: it never did."""
        return self._own_beats.last_heard_at


def _make_tracker(settings: Settings) -> Tracker:
    # A number is known for so long from when its frame was read. A sender sends nothing again that is older than half
    # of origin_ttl_s, and what it sent is read within two probes, or the link is given up.
    if settings.signing_keys is None:
        return Tracker(settings.origin_ttl_s + 2 * settings.probe_interval_s)
    # A frame may be signed origin_ttl_s ahead of our clock, and anyone can send it again until it is so long behind it.
    return Tracker(2 * (settings.origin_ttl_s + settings.probe_interval_s))
