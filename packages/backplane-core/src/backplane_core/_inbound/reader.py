"""From a link's frames to this pod's sinks: skip echoes, decode heads, drop copies, report holes, fan out in slices."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final, NoReturn

from backplane_core._fleet.post import FleetPost
from backplane_core._inbound.coverage import Coverage
from backplane_core._inbound.epochs import Epochs
from backplane_core._inbound.gap_notifier import GapNotifier
from backplane_core._inbound.own_beats import OwnBeats
from backplane_core._inbound.refusals import Refusals, is_signed
from backplane_core._local.delivery import Delivery
from backplane_core._local.registry import Entry, Registry
from backplane_core._local.union_event import UnionEvent
from backplane_core._protocol.frame import (
    FRAME_OVERHEAD_BYTES,
    Head,
    check_head,
    decode_exclude,
    decode_target,
    decode_targets,
    read_head,
)
from backplane_core._protocol.heartbeat import Heartbeat
from backplane_core._protocol.json import compact
from backplane_core._protocol.own_frames import OwnFrames
from backplane_core._protocol.peers import Peers
from backplane_core._protocol.sequence import DUPLICATE, UNCOUNTED, Tracker
from backplane_core._runtime.logging import logger
from backplane_core._runtime.reporter import Reporter
from backplane_core._runtime.system import System
from backplane_core.errors import EnvelopeError
from backplane_core.observe import EnvelopeRejected
from backplane_core.target import Target
from backplane_core.transport import Frame, Lost

__all__ = ["Reader"]

SLICE_S: Final = 0.002
"""How long delivery holds the loop before it gives it a turn, however many batches follow each other meanwhile."""
SLICE_BYTES: Final = 256 * 1024
"""Bytes handed to sinks between two looks at the clock, counted once per sink: 0.1 ms of work for sinks that take JSON,
1 ms for those that each have it decoded."""
SLICE_SINKS: Final = 512
"""The most sinks between two looks: a call has its price however small the event."""
LOOK_EVERY: Final = 64
"""Frames between two looks where none is delivered, as echoes and copies: 0.1 ms."""


class _TooLargeError(EnvelopeError):
    """An event that another pod may publish is too large for this one; who misses it was notified."""


class Reader:
    """Processes the frames of one backplane, one after the other.

    Args:
        own: How this pod's own frames are recognized.
        system: The clocks.
        registry: Knows this pod's connections.
        delivery: Hands events to them.
        tracker: Knows which numbers were heard.
        peers: Takes other pods' beats.
        heartbeat: Hears of it when more is waiting than fits one slice of the loop's time.
        own_beats: Takes this pod's beats that came back.
        post: Takes what other pods say besides events.
        gaps: Reports frames that are missing.
        coverage: Knows which channels may have missed something that nobody was notified of.
        reporter: Counts, and gets what was rejected.
        refusals: Notes what is refused.
        max_event_bytes: The largest event that is taken.
        needs_seq: Refuse frames without a number, of which a copy could not be known: in a fleet that signs, anyone who
            hears a frame can send it again.
    """

    def __init__(
        self,
        *,
        own: OwnFrames,
        system: System,
        registry: Registry,
        delivery: Delivery,
        tracker: Tracker,
        peers: Peers,
        heartbeat: Heartbeat,
        own_beats: OwnBeats,
        post: FleetPost,
        gaps: GapNotifier,
        coverage: Coverage,
        reporter: Reporter,
        refusals: Refusals,
        max_event_bytes: int,
        needs_seq: bool,
    ) -> None:
        self._origin, self._prefix, self._beat_suffix = own.origin, own.prefix, own.beat_suffix
        self._monotonic = system.monotonic
        self._registry = registry
        self._delivery = delivery
        self._tracker = tracker
        self._peers = peers
        self._heartbeat = heartbeat
        self._own_beats = own_beats
        self._post = post
        self._gaps = gaps
        self._coverage = coverage
        self._counters = reporter.counters
        self._reporter = reporter
        self._refusals = refusals
        self._refused = 0
        self._max_event_bytes = max_event_bytes
        self._max_frame_bytes = max_event_bytes + FRAME_OVERHEAD_BYTES
        self._needs_seq = needs_seq
        self._epochs = Epochs()
        self._slice_ends = 0.0

    async def process(self, batch: Iterable[Frame | Lost | None]) -> None:  # noqa: C901, PLR0912, PLR0915 -- calls are what it saves
        """Deliver a batch, in order; gives the loop a turn each few milliseconds."""
        registry, counters, monotonic = self._registry, self._counters, self._monotonic
        prefix, beat_suffix, deliver = self._prefix, self._beat_suffix, self._delivery.deliver
        coverage, owed_holes = self._coverage, self._gaps.owed_holes
        find, follows, max_event_bytes = registry.find, self._tracker.follows, self._max_event_bytes
        now = monotonic()
        if now >= self._slice_ends:
            if now - self._slice_ends < SLICE_S:
                # The batch before this one may have ended just so, without a turn since then.
                await asyncio.sleep(0)
                now = monotonic()
            self._slice_ends = now + SLICE_S
        for number, frame in enumerate(batch, 1):
            if not number % LOOK_EVERY and monotonic() >= self._slice_ends:
                await self._turn()
            if type(frame) is not tuple:
                self._lost(frame)
                continue
            channel, payload = frame[0], frame[1]
            if payload.startswith(prefix):
                if payload.endswith(beat_suffix):
                    self._own_beat(channel, payload)
                else:
                    counters.echoed += 1
                continue
            counters.received += 1
            size = len(payload)
            try:
                if size > max_event_bytes:
                    self._check_size(channel, payload)
                head = read_head(payload)
                # Nearly every frame is a small event, with the next number of a sender that we know.
                if (
                    head.routing is not None
                    or size > max_event_bytes
                    or not follows(channel, head.origin, head.seq, head.prev)
                ) and not self._admit(channel, payload, head):
                    if head.routing is not None:
                        await self._work()
                    continue
                if head.also or head.exclude:
                    targets = decode_targets(head)
                    entries = registry.resolve(targets, decode_exclude(head))
                    target = targets[0].wire
                else:
                    target = bytes(head.target)
                    # A foreign pod may write it otherwise, or write none at all.
                    entries = find(target) or registry.entries(decode_target(target))
            except EnvelopeError as error:
                self._reject(channel, payload, error)
                continue
            taken = 0
            if entries:
                event = bytes(head.event)
                if 10 in event or 13 in event:  # noqa: PLR2004 -- LF and CR; seven times cheaper than as bytes
                    event = compact(event)
                union = UnionEvent(event, decode_targets(head)) if head.also else None
                if owed_holes or coverage.since is not None:
                    entries = await self._notified(channel, entries, event, target, union, decode_targets(head))
                if len(entries) <= SLICE_SINKS and size * len(entries) <= SLICE_BYTES:
                    taken = deliver(entries, event, target, union)
                else:
                    taken = await self._deliver_sliced(entries, event, target, union, decode_targets(head))
            if head.receipt is not None:
                self._post.roll_calls.took(head.origin, head.receipt, taken)
                await self._work()
            if monotonic() >= self._slice_ends:
                await self._turn()

    async def _work(self) -> None:
        """Do what a pod has asked for, here among the events, and give the loop its turns meanwhile."""
        for _ in self._post.roll_calls.work():
            await self._turn()
        if self._monotonic() >= self._slice_ends:
            await self._turn()

    async def _notified(  # noqa: PLR0917 -- one caller
        self,
        channel: str,
        entries: Sequence[Entry],
        event: bytes,
        target: bytes,
        union: UnionEvent | None,
        targets: Sequence[Target],
    ) -> Sequence[Entry]:
        """Notify connections of what they missed before this frame; return those that still are to get it.

        Cancellation: the link ends, so this frame lies in the gap that begins there. Over a log there is none, and a
            copy that comes later would be dropped, as its number is taken: they get it at once, after their holes.
        """
        try:
            await self._gaps.notify_before(channel, entries)
        except asyncio.CancelledError:
            if self._tracker.keeps_first and self._coverage.since is None:
                self._gaps.notify_now(entries)
                self._delivery.deliver(self._registry.keep(entries, targets), event, target, union)
            raise
        # Others ran meanwhile: a connection may have left the target, and its id may be another user's by now.
        return self._registry.keep(entries, targets)

    @property
    def accepted(self) -> int:
        """How many frames of other pods were accepted since the start."""
        return self._counters.received - self._refused

    def _reject(self, channel: str, payload: bytes, error: EnvelopeError) -> None:
        self._counters.decode_errors += 1
        self._refused += 1
        reason = str(error)
        self._reporter.report(EnvelopeRejected(channel=channel, reason=reason))
        # Anything else that no pod reads, none has written: garbage must not take a pod out of service.
        is_a_pods = isinstance(error, _TooLargeError) or is_signed(payload)
        if is_a_pods and self._refusals.note(payload, reason):
            logger.warning("frames of another pod are refused, counted in stats() and logged once: %s", reason)

    def _lost(self, lost: Frame | Lost | None) -> None:
        if not isinstance(lost, Lost):
            return
        if lost.cause == "epoch" and lost.channel is not None:
            self._epochs.went_back(lost.channel, self._monotonic())
            if self._peers.can_deduplicate(self._monotonic()):
                return  # what is missing shows by its number, once its sender has sent again what it still has
        if lost.cause != "sequence" and lost.channel is not None:
            # What is missing by number is in this gap.
            self._tracker.cut_channel(lost.channel, float("inf") if lost.missed is None else lost.missed)
        self._own_beats.missed(lost.channel)
        self._gaps.report_hole(lost.channel, self._tracker.now, lost.missed, lost.reason, lost.cause)

    def _missed(self, channel: str | None, since: float, count: int | None, reason: str) -> None:
        self._own_beats.missed(channel)
        self._gaps.report_hole(channel, since, count, reason, self._epochs.cause(channel, self._monotonic()))

    def _own_beat(self, channel: str, payload: bytes) -> None:
        self._counters.beats += 1
        self._own_beats.heard(channel, payload)

    def _check_size(self, channel: str, payload: bytes) -> None:
        if len(payload) > self._max_frame_bytes:
            reason = f"{len(payload)} bytes, the limit is {self._max_frame_bytes}"
            self._missed(channel, self._tracker.now, None, f"a frame was too large for this pod: {reason}")
            raise _TooLargeError(f"not taken: {reason}")

    def _admit(self, channel: str, payload: bytes, head: Head) -> bool:
        """Return whether a frame should be delivered, which a beat, a copy and an echo should not.

        Raises:
            EnvelopeError: It is not an envelope.
        """
        check_head(head)
        if head.origin == self._origin:  # ours, but rewritten on its way
            self._counters.received -= 1
            if payload.endswith(self._beat_suffix):
                self._own_beat(channel, payload)
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
            decode_exclude(head)
            self._peers.foreign(self._monotonic())
            return True
        missing = self._tracker.accept(channel, head.origin, head.seq, head.prev)
        if missing:
            if missing == DUPLICATE:
                self._counters.duplicates += 1
                return False
            self._skipped(channel, head.origin, missing)
        if head.routing is not None and bytes(head.event) == b"null":
            if head.doubt and (missing := self._tracker.doubted(channel, head.origin)):
                reason = f"the broker of {self._peers.describe(head.origin)} was replaced"
                self._missed(channel, self._tracker.hole_since, missing, reason)
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

    async def _deliver_sliced(
        self,
        entries: Sequence[Entry],
        event: bytes,
        target: bytes,
        union: UnionEvent | None,
        targets: Sequence[Target],
    ) -> int:
        """Deliver one frame to many sinks, and return how many took it; it reaches all before the next reaches any.

        Cancellation: the others get it at once, as a copy that comes later would be dropped.
        """
        step = min(SLICE_SINKS, 1 + SLICE_BYTES // (len(event) + 1))
        turned, taken = False, 0
        for start in range(0, len(entries), step):
            part = entries[start : start + step]
            # As in `_notified`.
            left = self._registry.keep(part, targets) if turned else part
            taken += self._delivery.deliver(left, event, target, union)
            if self._monotonic() >= self._slice_ends:
                try:
                    await self._turn()
                except asyncio.CancelledError:
                    rest = self._registry.keep(entries[start + step :], targets)
                    self._delivery.deliver(rest, event, target, union)
                    raise
                turned = True
        return taken

    async def _turn(self) -> None:
        self._heartbeat.behind()
        await asyncio.sleep(0)
        self._slice_ends = self._monotonic() + SLICE_S
