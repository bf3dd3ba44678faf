"""Between replay and live: what a client has had already does not reach it once more; `Joining`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from backplane_core._local.entry import Entry
from backplane_core._log.mirror import Mirror
from backplane_core._protocol.position import EventPlace, Position
from backplane_core.event import Event, moved_event, place_of
from backplane_core.event_sink import EventSink

__all__ = ["Joining"]

LEFT_OUT: Final = "the client's place was not found in the log: it was not known whether it has had these events"


class Joining:
    """Stands before the sink of a client that has had more than this pod has read, until this pod has read that.

    The pod where it was had handed it events of its own that no log had yet, or had read further. They reach this pod
    later, and go to its other connections.

    The same holds for a client of which nobody could tell whether it had read further: the log could not be read. It
    was notified of a gap; what comes until its place was passed, or all that the log had, is left out. If the place was
    not among it, the client is notified that it missed that too.

    Args:
        mirror: Knows how far this pod is.
        entry: The connection.
        sink: Its own.
        ahead: See `Position.ahead`: what this pod has not read.
        behind: By lane: the place that this pod has not read, or may have read long ago.
        ends: By lane: the number of this pod with which it has read all that the client may have had. Without an end,
            a client from so long ago that no memory has its place would wait for that forever.
    """

    def __init__(  # noqa: PLR0917 -- one caller
        self,
        mirror: Mirror,
        entry: Entry,
        sink: EventSink,
        ahead: Mapping[tuple[int, str], int],
        behind: Mapping[int, str],
        ends: Mapping[int, int],
    ) -> None:
        self._mirror = mirror
        self._entry = entry
        self._sink = sink
        self._ahead = dict(ahead)
        self._behind = dict(behind)
        self._ends = dict(ends)
        # By lane: events that were left out, as nobody could tell yet whether the client has had them.
        self._left_out = dict.fromkeys(behind, 0)

    def accept(self, event: Event) -> bool:
        """Hand on an event that the client has not had."""
        place = place_of(event)
        if place is None:
            return self._sink.accept(event)
        self._end_in_vain()
        is_behind = self._is_behind(place)
        has_had = is_behind or 0 < place.seq <= self._ahead.get((place.lane, place.sender), 0)
        if is_behind:
            self._left_out[place.lane] += 1
        self._settle()
        if has_had:
            return True
        if not self._ahead and not self._behind:
            self._entry.sink = self._sink.accept
            return self._sink.accept(event)
        return self._sink.accept(moved_event(event, self.placed(place)))

    def _is_behind(self, place: EventPlace) -> bool:
        """Return whether an event stands before the place that the client had reached, or there."""
        cursor = self._behind.get(place.lane)
        if cursor is None or place.sender == self._mirror.own:
            return False
        return place.position.cursors[place.lane] == cursor or self._mirror.known(place.lane, cursor) is None

    def placed(self, place: EventPlace) -> EventPlace:
        """Return a place of this pod's as one of the client's, which has got further."""
        cursors = list(place.position.cursors)
        for lane, cursor in self._behind.items():
            cursors[lane] = cursor
        position = Position(cursors, {**place.position.ahead, **self._ahead})
        return EventPlace(place.codec, position, place.lane, place.sender, place.seq)

    def _end_in_vain(self) -> None:
        """Leave out nothing more of a lane in which the client's place did not come, and never will."""
        mirror = self._mirror
        for lane in [lane for lane in self._behind if mirror.echoes.has_come(lane, self._ends[lane])]:
            if mirror.known(lane, self._behind.pop(lane)) is None and (count := self._left_out[lane]):
                self._sink.mark(mirror.gap(lane, LEFT_OUT, count))

    def _settle(self) -> None:
        """Forget what this pod has read meanwhile."""
        mirror = self._mirror
        self._ahead = {
            (lane, sender): seq
            for (lane, sender), seq in self._ahead.items()
            if mirror.senders.last(lane, sender) < seq
        }
        self._behind = {lane: cursor for lane, cursor in self._behind.items() if mirror.known(lane, cursor) is None}
