"""What a frame is that is not simply the next event of a sender that is known: `Admission`."""

from __future__ import annotations

from typing import NoReturn

from backplane_core._fleet.post import FleetPost
from backplane_core._inbound.epochs import Epochs
from backplane_core._inbound.gap_notifier import GapNotifier
from backplane_core._inbound.own_beats import OwnBeats
from backplane_core._inbound.refusals import Refusals, is_signed
from backplane_core._inbound.stale_frame import StaleFrame
from backplane_core._log.mirror import Mirror
from backplane_core._protocol.frame import (
    FRAME_OVERHEAD_BYTES,
    Head,
    check_head,
    decode_exclusion,
    decode_head,
    decode_targets,
    is_beat,
)
from backplane_core._protocol.own_frames import OwnFrames
from backplane_core._protocol.peers import Peers
from backplane_core._protocol.sequence import DUPLICATE, UNCOUNTED, Tracker
from backplane_core._runtime.logging import logger
from backplane_core._runtime.reporter import Reporter
from backplane_core._runtime.system import System
from backplane_core.errors import EnvelopeError
from backplane_core.observe import EnvelopeRejected
from backplane_core.transport import Frame, Lost

__all__ = ["Admission"]


class _TooLargeError(EnvelopeError):
    """An event that another pod may publish is too large for this one; who misses it was notified."""


class Admission:
    """Judges frames: an event, a beat, an echo, a copy, or garbage; and reports what is missing before them.

    Args:
        own: How this pod's own frames are recognized.
        system: The clocks.
        tracker: Knows which numbers were heard.
        peers: Takes other pods' beats.
        own_beats: Takes this pod's beats that came back.
        post: Takes what other pods say besides events.
        gaps: Reports frames that are missing.
        reporter: Counts, and gets what was rejected.
        refusals: Notes what is refused.
        max_event_bytes: The largest event that is taken.
        needs_seq: Refuse frames without a number, of which a copy could not be known: in a fleet that signs, anyone who
            hears a frame can send it again.
        mirror: Keeps what passes, where the bus keeps a log; otherwise None.
    """

    def __init__(
        self,
        *,
        own: OwnFrames,
        system: System,
        tracker: Tracker,
        peers: Peers,
        own_beats: OwnBeats,
        post: FleetPost,
        gaps: GapNotifier,
        reporter: Reporter,
        refusals: Refusals,
        max_event_bytes: int,
        needs_seq: bool,
        mirror: Mirror | None = None,
    ) -> None:
        self._origin, self._beat_suffix = own.origin, own.beat_suffix
        self._monotonic = system.monotonic
        self._tracker = tracker
        self._peers = peers
        self._own_beats = own_beats
        self._post = post
        self._gaps = gaps
        self._counters = reporter.counters
        self._reporter = reporter
        self._refusals = refusals
        self._refused = 0
        self._max_event_bytes = max_event_bytes
        self._max_frame_bytes = max_event_bytes + FRAME_OVERHEAD_BYTES
        self._needs_seq = needs_seq
        self._mirror = mirror
        self._epochs = Epochs()

    @property
    def accepted(self) -> int:
        """How many frames of other pods were accepted since the start."""
        return self._counters.received - self._refused

    def reject(self, channel: str, payload: bytes, error: EnvelopeError) -> None:
        """Count and report a frame that is refused."""
        self._counters.decode_errors += 1
        self._refused += 1
        reason = str(error)
        self._reporter.report(EnvelopeRejected(channel=channel, reason=reason))
        # Anything else that no pod reads, none has written: garbage must not take a pod out of service.
        is_a_pods = isinstance(error, _TooLargeError) or is_signed(payload)
        if is_a_pods and self._refusals.note(payload, reason):
            logger.warning("frames of another pod are refused, counted in stats() and logged once: %s", reason)

    def take_lost(self, lost: Frame | Lost | StaleFrame | None) -> None:
        """Process a link's report of lost frames, or a frame that the verifier refused; None is a no-op."""
        if isinstance(lost, StaleFrame):
            self._take_stale(lost)
        if not isinstance(lost, Lost):
            return
        if lost.cause == "epoch" and lost.channel is not None:
            self._epochs.went_back(lost.channel, self._monotonic())
            if self._mirror is not None:
                self._mirror.went_back(lost.channel)
            if self._peers.can_deduplicate(self._monotonic()):
                return  # what is missing shows by its number, once its sender has sent again what it still has
        if lost.cause != "sequence" and lost.channel is not None:
            # What is missing by number is in this gap.
            self._tracker.cut_channel(lost.channel, float("inf") if lost.missed is None else lost.missed)
        self._own_beats.missed(lost.channel)
        self._post.missed(lost.channel)
        self._gaps.report_hole(lost.channel, self._tracker.now, lost.missed, lost.reason, lost.cause)

    def _take_stale(self, stale: StaleFrame) -> None:
        """Report an event as missing whose frame has a wrong time, unless it is an old frame that is sent again.

        The signature proves that a pod of this fleet wrote it, so its number can be trusted: a known number is a copy,
        and a new one is an event that no connection of this pod gets. If nothing of its pod was heard on this channel
        yet, the frame may be years old: it counts as missing only if that pod is in the fleet, and may be counted once
        more with the frames that follow, since its number can't be compared.
        """
        try:
            head = decode_head(stale.payload)
        except EnvelopeError:
            return
        if head.seq is None:
            return
        channel, missing, is_known = stale.channel, 0, self._tracker.knows(stale.channel, head.origin)
        if is_known:
            missing = self._tracker.accept(channel, head.origin, head.seq, head.prev)
        else:
            self._tracker.refused(channel, head.origin)
        is_event = (is_known or self._post.is_there(head.origin)) and not is_beat(head)
        # While everything is refused, the open gap covers it.
        if missing == DUPLICATE or not (missing or is_event) or self._refusals.is_deaf:
            return
        count = missing + is_event if is_known and missing != UNCOUNTED else None
        reason = f"a frame of {self._peers.describe(head.origin)} was {stale.reason}"
        self._missed(channel, self._tracker.hole_since if missing else self._tracker.now, count, reason)

    def own_beat(self, channel: str, payload: bytes) -> None:
        """Take a beat of this pod that came back."""
        self._counters.beats += 1
        self._own_beats.heard(channel, payload)

    def check_size(self, channel: str, payload: bytes) -> None:
        """Refuse a frame that is larger than any which holds an event that is taken.

        Raises:
            EnvelopeError: It is.
        """
        if len(payload) > self._max_frame_bytes:
            reason = f"{len(payload)} bytes, the limit is {self._max_frame_bytes}"
            self._missed(channel, self._tracker.now, None, f"a frame was too large for this pod: {reason}")
            raise _TooLargeError(f"not taken: {reason}")

    def admit(self, channel: str, payload: bytes, head: Head) -> bool:  # noqa: C901 -- one question after the other
        """Return whether a frame should be delivered, which a beat, a copy and an echo should not.

        Raises:
            EnvelopeError: It is not an envelope.
        """
        check_head(head)
        if head.origin == self._origin:  # ours, but rewritten on its way
            self._counters.received -= 1
            if payload.endswith(self._beat_suffix):
                self.own_beat(channel, payload)
            else:
                self._counters.echoed += 1
            return False
        if len(payload) > self._max_event_bytes and (size := len(bytes(head.event))) > self._max_event_bytes:
            limit = f"the limit is {self._max_event_bytes}: give all pods the same max_event_bytes"
            self._refuse(channel, head, f"an event of {size} bytes, {limit}")
        if head.seq is None:
            if self._needs_seq:
                raise EnvelopeError("not taken: a signed frame has seq, for a copy of it could not be known")
            # A frame that is refused for its targets says nothing of who is there.
            decode_targets(head)
            decode_exclusion(head)
            self._peers.foreign(self._monotonic())
            return True
        missing = self._tracker.accept(channel, head.origin, head.seq, head.prev)
        if missing:
            if missing == DUPLICATE:
                self._counters.duplicates += 1
                if self._mirror is not None:
                    self._mirror.copy(channel, head)
                return False
            self._skipped(channel, head.origin, missing)
        if head.doubt and (missing := self._tracker.doubted(channel, head.origin)):
            reason = f"the broker of {self._peers.describe(head.origin)} was replaced"
            self._missed(channel, self._tracker.hole_since, missing, reason)
        if is_beat(head):
            if self._mirror is not None:
                self._mirror.take(channel, head)
            self._peers.beat(head, payload)
            self._post.take(head, payload)
            return False
        return True

    def _skipped(self, channel: str, origin: str, missing: int) -> None:
        sender = self._peers.describe(origin)
        if missing == UNCOUNTED:
            self._missed(channel, self._tracker.hole_since, None, f"frames were refused before {sender} was accepted")
        else:
            self._missed(channel, self._tracker.hole_since, missing, f"numbers of {sender} were skipped")

    def _refuse(self, channel: str, head: Head, reason: str) -> NoReturn:
        """Refuse an event that another pod may publish and this one does not take: those who miss it are notified.

        Raises:
            _TooLargeError: Always.
        """
        missing = 0 if head.seq is None else self._tracker.accept(channel, head.origin, head.seq, head.prev)
        if missing == UNCOUNTED:
            self._skipped(channel, head.origin, missing)
            missing = 0
        if missing != DUPLICATE:
            self._missed(channel, self._tracker.hole_since if missing else self._tracker.now, missing + 1, reason)
        raise _TooLargeError(f"not taken: {reason}")

    def _missed(self, channel: str | None, since: float, count: int | None, reason: str) -> None:
        self._own_beats.missed(channel)
        self._post.missed(channel)
        self._gaps.report_hole(channel, since, count, reason, self._epochs.cause(channel, self._monotonic()))
