"""The last entries of the logs that a pod reads, kept in memory for clients that come back: `Mirror`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Final
from weakref import WeakValueDictionary

from msgspec import structs

from backplane_core._log.echoes import Echoes
from backplane_core._log.holds import Holds
from backplane_core._log.holes import Hole, Holes
from backplane_core._log.record import Record, record_of
from backplane_core._log.repeats import LogRepeats
from backplane_core._log.senders import Senders
from backplane_core._log.serving import Serving
from backplane_core._protocol.frame import Head, read_head
from backplane_core._protocol.position import EventPlace, Position, PositionCodec, origin_key
from backplane_core._runtime.system import System
from backplane_core.errors import EnvelopeError
from backplane_core.observe import Gap

__all__ = ["UNSURE", "Mirror"]

PLACE_BYTES: Final = 200
"""What an entry takes in memory besides its event: its cursor, and how to find it by that."""
RECORD_BYTES: Final = 500
"""The same of one with an event, which is found by its targets as well."""

UNSURE: Final = "the log dropped events before this pod could see where it had them"


class Mirror:
    """Keeps what passed this pod lately, in the order in which its connections got it, and finds it by target.

    The invariant: whatever a connection of this pod that has a target was handed, since a place that is `known`, is
    found by that target, or lies in a hole. A frame is recorded in the step in which it is decided who gets it, so a
    connection that is attached in another step gets it in one way or the other, and never in both.

    This pod's own events are different: its connections get them before any log has them. Until then they are
    `pending`, behind everything else; in the log they take their place like those of others. An event's id says how
    many of them were handed out (`Position.ahead`).

    A log may lose its end, and get it again by and by, in another order. What this pod has handed out already comes as
    copies then, which its connections don't get. But clients of other pods may come by with a place in the new part,
    and not have it. So these copies are recorded once more, where they stand now, and until the log has caught up
    (`Senders.lagging`) ids say how far each sender had got.

    Args:
        channels: The lanes' channels, the shared one first.
        origin: This pod's.
        max_bytes: How many bytes it takes, about; the oldest records go first.
        system: The clock.
        repeats: Knows events that are in a log more than once.
    """

    def __init__(
        self, channels: Sequence[str], origin: str, max_bytes: int, system: System, repeats: LogRepeats
    ) -> None:
        self._channels = channels
        self._system = system
        self._repeats = repeats
        self.codec = PositionCodec.of(channels)
        self.lanes = {channel: lane for lane, channel in enumerate(channels)}
        self.vector = [""] * len(channels)
        """By lane: the cursor up to which everything was handed to this pod's connections."""
        self.own = origin_key(origin)
        self.max_bytes = max_bytes
        self.cursor = ""
        """That of the entry which is being read."""
        self.serving: Serving | None = None
        """The frame that is being handed out in slices; None: none is."""
        self.bytes = 0
        self.events = 0
        self.same = 0
        """Records of frames in whose place another one of the same event was handed out."""
        self.senders = Senders(len(channels))
        self.pending: list[deque[Record]] = [deque() for _ in channels]
        """By lane: this pod's own events that it has not read in the log yet."""
        self._pending_bytes = 0
        self.unsure = [0] * len(channels)
        """By lane: up to which number of this pod it is not known where in the log its events are; 0: all are."""
        # By lane: the serial of the place where the last link began.
        self._begun = [0] * len(channels)
        # By lane: the last serial before that, until something is read there.
        self._before_begun: list[int | None] = [None] * len(channels)
        self.bare = [""] * len(channels)
        """By lane: a position at which a link began and whose entry this pod has not read."""
        self._serial = 0
        self._records: deque[Record] = deque()
        self._places: list[dict[str, int]] = [{} for _ in channels]
        self._by_target: dict[bytes, deque[Record]] = {}
        self.holes = Holes()
        self.unread: list[tuple[int, float] | None] = [None] * len(channels)
        """By lane: behind which serial the log dropped what this pod had not read, and when it found that, last."""
        self.forgotten = [0] * len(channels)
        """By lane: the serial of the last record with an event that was forgotten."""
        # By lane: the serial of the last place that was passed, which is known for as long as it is the last.
        self._last_serials = [0] * len(channels)
        self.echoes = Echoes()
        self._holds = Holds()
        # Kept only by those that wait: a client may name a position that never comes.
        self._reached = WeakValueDictionary[tuple[int, str], asyncio.Event]()

    # What the reader and the publisher say

    def began(self, channel: str, cursor: str) -> None:
        """Record that a channel is read from behind this place on."""
        lane = self.lanes.get(channel)
        if lane is not None and self.vector[lane] != cursor:
            known, before = self.known(lane, cursor), self._serial
            self._begun[lane] = known or 0
            if known is None:
                self.bare[lane] = cursor
            self.passed(channel, cursor)
            self._before_begun[lane] = before

    def accept(self, record: Record) -> EventPlace:
        """Record a frame that is about to be handed to whom it is for; return the place of its event.

        Args:
            record: Not recorded yet.
        """
        lane, sender = record.lane, record.sender
        lag = self.senders.lagging[lane]
        if lag and record.seq > (last := lag.get(sender, record.seq)):
            # It goes on behind what the log had before, and what that may have lost of this sender did not come again.
            self.senders.caught_up(lane, sender)
            self._may_lack(lane, sender, last)
        record.serial = self._next()
        self._place(record)
        if record.event is not None or record.same_as is not None:
            self._index(record)
        if record.seq:
            self.senders.heard(lane, sender, record.seq)
        vector = self.vector.copy()
        vector[lane] = record.cursor
        return EventPlace(self.codec, Position(vector, self.ahead()), lane, sender, record.seq)

    def take(self, channel: str, head: Head) -> EventPlace | None:
        """Record the frame at `cursor`, as `accept` does.

        Raises:
            EnvelopeError: Its targets are none.
        """
        lane = self.lanes.get(channel)
        return None if lane is None else self.accept(record_of(head, lane, self.cursor))

    def repeated(self, channel: str, head: Head, first: tuple[str, int] | None) -> None:
        """Record that the frame at `cursor` is of an event that came before under another number.

        Args:
            channel: The log's.
            head: The frame's.
            first: The sender and the number of the frame that was handed out.
        """
        lane = self.lanes.get(channel)
        if lane is not None:
            self.accept(
                structs.replace(record_of(head, lane, self.cursor), event=None, size=RECORD_BYTES, same_as=first)
            )

    def copy(self, channel: str, head: Head) -> None:
        """Record that the frame at `cursor` is a copy, as `copied` does."""
        lane = self.lanes.get(channel)
        if lane is not None and self.senders.lagging[lane]:
            with suppress(EnvelopeError):
                self.copied(record_of(self._repeats.seen(head), lane, self.cursor))

    def echo(self, channel: str, payload: bytes) -> None:
        """Record that the frame at `cursor` is one of this pod's own, which it has read in the log."""
        lane = self.lanes.get(channel)
        if lane is None:
            return
        is_looked_for = self.pending[lane] or self.unsure[lane] or self.senders.lagging[lane]
        is_awaited = lane in self.echoes.awaited
        if not is_looked_for and not is_awaited:
            return
        with suppress(EnvelopeError):
            head = read_head(payload)
            seq, unsure = head.seq or 0, self.unsure[lane]
            if is_awaited:
                self.echoes.came(lane, seq)
            # Nearly every one is there already, as it was published: it needs no decoding but for its number.
            if is_looked_for and not self._place_pending(lane, seq, self.cursor):
                self._echoed_late(record_of(self._repeats.seen(head), lane, self.cursor), unsure)

    def publish(self, record: Record) -> None:
        """Record an event of this pod that is about to be handed to its own connections."""
        pending = self.pending[record.lane]
        pending.append(record)
        self._pending_bytes += record.size
        if self._pending_bytes > self.max_bytes and len(pending) > 1:
            first = pending.popleft()
            self._pending_bytes -= first.size
            self.unsure[record.lane] = max(self.unsure[record.lane], first.seq)
        self.senders.heard(record.lane, self.own, record.seq)

    def published_at(self, record: Record) -> EventPlace:
        """Return the place of the event that was published last."""
        return EventPlace(self.codec, self.position(), record.lane, self.own, record.seq)

    def copied(self, record: Record) -> None:
        """Record a frame that this pod had before: if its log had lost it, this is its place from now on."""
        lane = record.lane
        if self.senders.came_again(lane, record.sender, record.seq) and record.event is not None:
            record.serial, record.late_since = self._next(), self.senders.went_back_at[lane]
            self._place(record)
            self._index(record)

    def _place_pending(self, lane: int, seq: int, cursor: str) -> bool:
        """Place this pod's events up to a number, which it has read in the log; return False if none is pending."""
        pending = self.pending[lane]
        if seq >= self.unsure[lane]:
            self.unsure[lane] = 0
        if not pending or seq < pending[0].seq:
            return False
        self.senders.came_again(lane, self.own, seq)
        while pending and pending[0].seq <= seq:
            own = pending.popleft()
            self._pending_bytes -= own.size
            # One that was dropped on its way is in no log.
            own.cursor, own.serial = cursor if own.seq == seq else "", self._next()
            self._place(own)
            if own.event is not None:
                self._index(own)
        return True

    def _echoed_late(self, record: Record, unsure: int) -> None:
        """Record a frame of this pod's own that is no longer pending."""
        if record.seq <= unsure:
            # It may be a copy of what others had long ago.
            self._add_hole(self._hole_at(record.lane, UNSURE, 1))
        else:
            self.copied(record)

    def passed(self, channel: str, cursor: str) -> None:
        """Record that all connections that are to get it were handed the entry at this place, or nobody is."""
        lane = self.lanes.get(channel)
        if lane is None:
            return
        places = self._places[lane]
        # What is passed once more, after a turn of the loop, and was forgotten meanwhile, keeps the serial that it had:
        # under a new one it would look as if its event was still here.
        if cursor in places or cursor != self.vector[lane]:
            if cursor not in places:
                self._place(Record(self._next(), lane, cursor))
            self.vector[lane], self._last_serials[lane] = cursor, places[cursor]
        self.serving = None
        self._before_begun[lane] = None
        if self._reached and (reached := self._reached.pop((lane, cursor), None)):
            reached.set()
        while self.bytes > self.max_bytes and self._records:
            if self._holds.begins and self._holds.holds(self._records[0].serial, self.bytes - self.max_bytes):
                break
            self._forget()

    def hole(self, channel: str | None, gap: Gap) -> None:
        """Record that frames of a channel are missing here, as was reported; None: of any."""
        lane = None if channel is None else self.lanes.get(channel)
        self._add_hole(Hole(self._serial, lane, gap))
        if gap.cause != "trimmed" or lane is None:
            return
        self.unread[lane] = self._serial, self._system.monotonic()
        if pending := self.pending[lane]:
            # Those may have been in the log, and clients of other pods may have had them.
            self.unsure[lane] = pending[-1].seq
            self._pending_bytes -= sum([record.size for record in pending])
            pending.clear()

    def went_back(self, channel: str) -> None:
        """Record that a log lost its end: it may come again, in another order."""
        lane = self.lanes.get(channel)
        if lane is not None:
            before = self._before_begun[lane]
            self.senders.went_back(lane, self._serial if before is None else before)

    # What is asked

    def position(self) -> Position:
        """Return how far a connection of this pod has got that was handed everything."""
        return Position(self.vector.copy(), self.ahead())

    @property
    def total_bytes(self) -> int:
        """How many bytes it takes, about."""
        return self.bytes + self._pending_bytes

    def channel(self, lane: int) -> str:
        """Return the channel of a lane."""
        return self._channels[lane]

    def place(self) -> EventPlace:
        """Return that as a place."""
        return EventPlace(self.codec, self.position())

    def ahead(self) -> dict[tuple[int, str], int]:
        """Return how far senders are ahead of the log here; see `Ahead`."""
        found: dict[tuple[int, str], int] = {}
        for lane, pending in enumerate(self.pending):
            if self.senders.lagging[lane]:
                found.update({(lane, sender): seq for sender, seq in self.senders.lagging[lane].items()})
            if pending or self.unsure[lane]:
                found[lane, self.own] = pending[-1].seq if pending else self.unsure[lane]
        return found

    def known(self, lane: int, cursor: str) -> int | None:
        """Return behind which serial a client at this place of a lane goes on; None: it is not known here."""
        if cursor == self.vector[lane]:
            return self._last_serials[lane] if cursor else None
        return self._places[lane].get(cursor)

    def first(self, lane: int) -> tuple[str, int]:
        """Return the oldest known cursor of a lane, and its serial; an empty one if none is known."""
        found = next(iter(self._places[lane].items()), None)
        return (self.vector[lane], self._last_serials[lane]) if found is None else found

    async def reach(self, lane: int, cursor: str) -> None:
        """Return once this pod has passed a place of a lane, which it has not yet."""
        if self.known(lane, cursor) is None:
            await self._reached.setdefault((lane, cursor), asyncio.Event()).wait()

    def holding(self) -> AbstractContextManager[None]:
        """Forget nothing within a block that is known now: a log is read up to there; see `Holds`."""
        return self._holds.holding(self._records[0].serial if self._records else self._serial + 1)

    def records(self, targets: Iterable[bytes], starts: Sequence[int | None]) -> list[Record]:
        """Return what passed of these targets, in order, each once; this pod's pending events come last.

        Args:
            targets: Their wire forms.
            starts: By lane: behind which serial; None: nothing of this lane.
        """
        wanted = frozenset(targets)
        floor = min([start for start in starts if start is not None], default=self._serial)
        found: dict[int, Record] = {}
        lacking = self._lacking(wanted, starts)
        for target in wanted:
            for record in reversed(self._by_target.get(target, ())):
                if record.serial <= floor:
                    break
                start = starts[record.lane]
                if start is not None and record.serial > start and (not record.late_since or start > record.late_since):
                    found[record.serial] = record
        passed = [found[serial] for serial in sorted(found)]
        passed += [lacking[serial] for serial in sorted(lacking)]
        for lane, pending in enumerate(self.pending):
            if starts[lane] is not None:
                # Copies: these get their place in the log while a client may still be reading.
                passed += [structs.replace(record) for record in pending if not wanted.isdisjoint(record.targets)]
        return passed

    def handed_out_elsewhere(
        self, targets: Iterable[bytes], starts: Sequence[int | None], position: Position
    ) -> set[tuple[int, str, int]]:
        """Return by lane, sender and number the frames whose event a client at a position has had from another frame.

        Two pods published it under one event id before either had heard of the other, and each handed its own
        connections its own frame. Once both are in the log, it can be seen which of them a client has had.
        """
        if not self.same:
            return set()
        found: set[tuple[int, str, int]] = set()
        for target in targets:
            for record in self._by_target.get(target, ()):
                if record.same_as is None or (start := starts[record.lane]) is None:
                    continue
                if record.serial <= start or 0 < record.seq <= position.ahead.get((record.lane, record.sender), 0):
                    found.add((record.lane, *record.same_as))
        return found

    def _lacking(self, wanted: Iterable[bytes], starts: Sequence[int | None]) -> dict[int, Record]:
        """Return what this pod has had that a log lost and has not got again, for clients that came there since."""
        senders = self.senders
        lanes = {
            lane
            for lane, start in enumerate(starts)
            if start is not None and senders.lagging[lane] and start > senders.went_back_at[lane]
        }
        if not lanes:
            return {}
        return {
            record.serial: record
            for target in wanted
            for record in self._by_target.get(target, ())
            if record.lane in lanes
            and self._begun[record.lane] < record.serial <= senders.went_back_at[record.lane]
            and senders.is_lacking(record.lane, record.sender, record.seq)
        }

    # How it is kept

    def _next(self) -> int:
        self._serial += 1
        return self._serial

    def _place(self, record: Record) -> None:
        record.size += PLACE_BYTES if record.event is None else RECORD_BYTES
        if record.cursor:
            self._places[record.lane][record.cursor] = record.serial
        self._records.append(record)
        self.bytes += record.size

    def _index(self, record: Record) -> None:
        if record.event is None:
            self.same += 1
        else:
            self.events += 1
        for target in record.targets:
            found = self._by_target.get(target)
            if found is None:
                self._by_target[target] = found = deque[Record]()
            found.append(record)

    def _forget(self) -> None:
        record = self._records.popleft()
        self.bytes -= record.size
        places = self._places[record.lane]
        if places.get(record.cursor) == record.serial:
            del places[record.cursor]
        if record.event is None and record.same_as is None:
            return
        if record.event is None:
            self.same -= 1
        else:
            self.events -= 1
        self.forgotten[record.lane] = record.serial
        for target in record.targets:
            found = self._by_target[target]
            found.popleft()
            if not found:
                del self._by_target[target]

    def _may_lack(self, lane: int, sender: str, last: int) -> None:
        """Record that the log may lack numbers of a sender that this pod has had, and others may not."""
        self._add_hole(self._hole_at(lane, "the log lost its end, and may lack events of a pod", None, (sender, last)))

    def gap(self, lane: int, reason: str, missed: int) -> Gap:
        """Return a gap of a client that came back, up to now."""
        now = self._system.wall()
        return Gap(channel=self._channels[lane], cause="resume", reason=reason, since=now, until=now, missed=missed)

    def _hole_at(self, lane: int, reason: str, missed: int | None, spares: tuple[str, int] | None = None) -> Hole:
        now = self._system.wall()
        gap = Gap(channel=self._channels[lane], cause="epoch", reason=reason, since=now, until=now, missed=missed)
        return Hole(self._serial, lane, gap, spares)

    def _add_hole(self, hole: Hole) -> None:
        forgotten = self.holes.add(hole)
        while forgotten is not None and self._records and self._records[0].serial <= forgotten.serial:
            self._forget()
