"""Between replay and live: what a client has had already does not reach it once more; `Joining`."""

from __future__ import annotations

from collections.abc import Mapping

from backplane_core._local.entry import Entry
from backplane_core._log.mirror import Mirror
from backplane_core._protocol.position import EventPlace, Position
from backplane_core.event import Event, moved_event, place_of
from backplane_core.event_sink import EventSink

__all__ = ["Joining"]


class Joining:
    """Stands before the sink of a client that has had more than this pod has read, until this pod has read that.

    The pod where it was had handed it events of its own that no log had yet, or had read further. They reach this pod
    later, and go to its other connections.

    Args:
        mirror: Knows how far this pod is.
        entry: The connection.
        sink: Its own.
        ahead: See `Position.ahead`: what this pod has not read.
        behind: By lane: the place that this pod has not read.
    """

    def __init__(
        self,
        mirror: Mirror,
        entry: Entry,
        sink: EventSink,
        ahead: Mapping[tuple[int, str], int],
        behind: Mapping[int, str],
    ) -> None:
        self._mirror = mirror
        self._entry = entry
        self._sink = sink
        self._ahead = dict(ahead)
        self._behind = dict(behind)

    def accept(self, event: Event) -> bool:
        """Hand on an event that the client has not had."""
        place = place_of(event)
        if place is None:
            return self._sink.accept(event)
        has_had = 0 < place.seq <= self._ahead.get((place.lane, place.sender), 0) or self._is_behind(place)
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

    def _settle(self) -> None:
        """Forget what this pod has read meanwhile."""
        mirror = self._mirror
        self._ahead = {
            (lane, sender): seq
            for (lane, sender), seq in self._ahead.items()
            if mirror.senders.last(lane, sender) < seq
        }
        self._behind = {lane: cursor for lane, cursor in self._behind.items() if mirror.known(lane, cursor) is None}
