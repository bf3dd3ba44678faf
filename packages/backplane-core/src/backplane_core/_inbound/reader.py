"""From a link's frames to this pod's sinks: skip echoes, decode heads, fan out, in slices of the loop's time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from backplane_core._fleet.post import FleetPost
from backplane_core._inbound.admission import Admission
from backplane_core._inbound.coverage import Coverage
from backplane_core._inbound.fanout import Fanout
from backplane_core._inbound.gap_notifier import GapNotifier
from backplane_core._inbound.stale_frame import StaleFrame
from backplane_core._local.delivery import Delivery
from backplane_core._local.entry import Entry
from backplane_core._local.registry import Registry
from backplane_core._local.traces import Traces
from backplane_core._local.union_event import UnionEvent
from backplane_core._log.mirror import Mirror
from backplane_core._protocol.event_ids import EventIds, Publication, event_key
from backplane_core._protocol.frame import (
    Head,
    decode_event_id,
    decode_exclusion,
    decode_key,
    decode_target,
    decode_targets,
    read_head,
)
from backplane_core._protocol.heartbeat import Heartbeat
from backplane_core._protocol.json import compact
from backplane_core._protocol.own_frames import OwnFrames
from backplane_core._protocol.position import origin_key
from backplane_core._protocol.sequence import Tracker
from backplane_core._runtime.counters import Counters
from backplane_core._runtime.system import System
from backplane_core.errors import EnvelopeError
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


class Reader:
    """Processes the frames of one backplane, one after the other.

    Args:
        own: How this pod's own frames are recognized.
        system: The clocks.
        registry: Knows this pod's connections.
        delivery: Hands events to them.
        tracker: Knows which numbers were heard.
        admission: Judges all but the next event of a known sender.
        heartbeat: Hears of it when more is waiting than fits one slice of the loop's time.
        post: Takes what other pods say besides events.
        gaps: Reports frames that are missing.
        coverage: Knows which channels may have missed something that nobody was notified of.
        counters: Counts.
        max_event_bytes: The largest event that is taken.
        event_ids: Knows which events came before.
        traces: Reports events that belong to a trace.
        mirror: Keeps what passes, where the bus keeps a log; otherwise None.
    """

    def __init__(
        self,
        *,
        own: OwnFrames,
        system: System,
        registry: Registry,
        delivery: Delivery,
        tracker: Tracker,
        admission: Admission,
        heartbeat: Heartbeat,
        post: FleetPost,
        gaps: GapNotifier,
        coverage: Coverage,
        counters: Counters,
        max_event_bytes: int,
        event_ids: EventIds,
        traces: Traces,
        mirror: Mirror | None = None,
    ) -> None:
        self._prefix, self._beat_suffix = own.prefix, own.beat_suffix
        self._monotonic = system.monotonic
        self._registry = registry
        self._delivery = delivery
        self._tracker = tracker
        self._admission = admission
        self._heartbeat = heartbeat
        self._post = post
        self._gaps = gaps
        self._coverage = coverage
        self._counters = counters
        self._max_event_bytes = max_event_bytes
        self._event_ids = event_ids
        self._traces = traces
        self._mirror = mirror
        self._slice_ends = 0.0

    async def process(self, batch: Iterable[Frame | Lost | StaleFrame | None]) -> None:  # noqa: C901, PLR0912, PLR0915 -- calls are what it saves
        """Deliver a batch, in order; gives the loop a turn each few milliseconds."""
        registry, counters, monotonic = self._registry, self._counters, self._monotonic
        admission = self._admission
        prefix, beat_suffix, deliver = self._prefix, self._beat_suffix, self._delivery.deliver
        coverage, owed_holes = self._coverage, self._gaps.owed_holes
        find, follows, max_event_bytes = registry.find, self._tracker.follows, self._max_event_bytes
        mirror, place = self._mirror, None
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
                admission.take_lost(frame)
                continue
            channel, payload = frame[0], frame[1]
            if payload.startswith(prefix):
                if payload.endswith(beat_suffix):
                    admission.own_beat(channel, payload)
                else:
                    counters.echoed += 1
                continue
            counters.received += 1
            size = len(payload)
            try:
                if size > max_event_bytes:
                    admission.check_size(channel, payload)
                head = read_head(payload)
                # Nearly every frame is a small event, with the next number of a sender that we know.
                if (
                    head.routing is not None
                    or size > max_event_bytes
                    or not follows(channel, head.origin, head.seq, head.prev)
                ) and not admission.admit(channel, payload, head):
                    if head.routing is not None:
                        await self._work()
                    continue
                targets = exclude = None
                if head.also or head.exclude or head.to is not None:
                    targets, exclude = decode_targets(head), decode_exclusion(head)
                    entries = registry.resolve(targets, exclude)
                    target = targets[0].wire
                else:
                    target = bytes(head.target)
                    # A foreign pod may write it otherwise, or write none at all.
                    entries = find(target) or registry.entries(decode_target(target))
                key = None if head.key is None else decode_key(head)
                if head.event_id is not None and self._is_repeated(channel, head):
                    self._passed(channel)
                    await self._work()
                    continue
                if mirror is not None:
                    place = mirror.take(channel, head)
            except EnvelopeError as error:
                admission.reject(channel, payload, error)
                continue
            taken = 0
            if entries:
                traced = self._traces.begin_received(bytes(head.trace)) if head.trace else None
                event = bytes(head.event)
                if 10 in event or 13 in event:  # noqa: PLR2004 -- LF and CR; seven times cheaper than as bytes
                    event = compact(event)
                is_plain = not head.also and head.to is None and key is None
                union = None if is_plain else UnionEvent(event, targets or decode_targets(head), place, key=key)
                is_small = len(entries) <= SLICE_SINKS and size * len(entries) <= SLICE_BYTES
                if is_small and not owed_holes and coverage.since is None:
                    taken = deliver(entries, event, target, union, place)
                else:
                    targets = targets or decode_targets(head)
                    fanout = Fanout(
                        registry, self._delivery, mirror, event, target, union, place, targets=targets, exclude=exclude
                    )
                    taken = await self._fan_out(channel, fanout, entries)
                if traced is not None:
                    self._passed(channel)  # an observer may publish
                    self._traces.end(traced, taken, is_own=False)
            if head.receipt is not None:
                self._post.roll_calls.took(head.origin, head.receipt, taken)
                self._passed(channel)
                await self._work()
            if monotonic() >= self._slice_ends:
                self._passed(channel)
                await self._turn()

    def _is_repeated(self, channel: str, head: Head) -> bool:
        """Return whether an event with an id came before; then nobody gets it, and who asks for a receipt hears so.

        Raises:
            EnvelopeError: The id, or a target, is none.
        """
        key = event_key(decode_targets(head), decode_event_id(head))
        publication = Publication(origin_key(head.origin), head.seq or 0)
        if not self._event_ids.is_repeated(key, publication, self._monotonic()):
            return False
        self._counters.repeats += 1
        if self._mirror is not None:
            self._mirror.repeated(channel, head, self._event_ids.first(key))
        if head.receipt is not None:
            self._post.roll_calls.took(head.origin, head.receipt, 0)
        return True

    def _passed(self, channel: str) -> None:
        """Record that the current frame has reached all of its sinks: what this pod publishes now comes after it."""
        if self._mirror is not None:
            self._mirror.passed(channel, self._mirror.cursor)

    async def _work(self) -> None:
        """Do what a pod has asked for, here among the events, and give the loop its turns meanwhile."""
        for _ in self._post.roll_calls.work():
            await self._turn()
        if self._monotonic() >= self._slice_ends:
            await self._turn()

    async def _fan_out(self, channel: str, fanout: Fanout, entries: Sequence[Entry]) -> int:
        """Deliver a frame that takes more than one step, and return how many sinks took it."""
        if self._gaps.owed_holes or self._coverage.since is not None:
            entries = await self._notified(channel, fanout, entries)
        return await self._deliver_sliced(channel, fanout, entries)

    async def _notified(self, channel: str, fanout: Fanout, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Notify connections of what they missed before this frame; return those that still are to get it.

        Cancellation: the link ends, so this frame lies in the gap that begins there. Over a log there is none, and a
            copy that comes later would be dropped, as its number is taken: they get it at once, after their holes.
        """
        try:
            await self._gaps.notify_before(channel, entries)
        except asyncio.CancelledError:
            if self._tracker.keeps_first and self._coverage.since is None:
                fanout.go_on()
                self._gaps.notify_now(entries)
                fanout.deliver(fanout.keep(entries))
                self._passed(channel)
            raise
        fanout.go_on()
        return fanout.keep(entries)

    async def _deliver_sliced(self, channel: str, fanout: Fanout, entries: Sequence[Entry]) -> int:
        """Deliver one frame to many sinks, and return how many took it; it reaches all before the next reaches any.

        Cancellation: the others get it at once, as a copy that comes later would be dropped.
        """
        step = min(SLICE_SINKS, 1 + SLICE_BYTES // (len(fanout.event) + 1))
        turned, taken = False, 0
        for start in range(0, len(entries), step):
            part = entries[start : start + step]
            taken += fanout.deliver(fanout.keep(part) if turned else part)
            if self._monotonic() >= self._slice_ends:
                fanout.pause(entries[: start + step])
                try:
                    await self._turn()
                except asyncio.CancelledError:
                    fanout.go_on()
                    fanout.deliver(fanout.keep(entries[start + step :]))
                    self._passed(channel)
                    raise
                fanout.go_on()
                turned = True
        return taken

    async def _turn(self) -> None:
        self._heartbeat.behind()
        await asyncio.sleep(0)
        self._slice_ends = self._monotonic() + SLICE_S
