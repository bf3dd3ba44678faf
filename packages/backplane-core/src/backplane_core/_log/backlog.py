"""What a client gets that comes back, before anything live: `Backlog`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from backplane_core._log.record import Record
from backplane_core._log.turns import PAGE
from backplane_core._protocol.position import EventPlace, Position
from backplane_core.event import CaughtUp, Event, keyed_event, make_event
from backplane_core.observe import Gap

__all__ = ["Backlog"]


class Backlog:
    """Makes the items of a replay one by one, as they are taken: gaps, events, and the mark of the end.

    Args:
        gaps: What comes first.
        missed: What was missed, with holes in their places.
        end: Where a connection is that has got all of it; None: nowhere, as the bus keeps no log.
        position: Where the client was; None: nobody knows, and nothing was missed.
        wires: Of the connection's targets.
    """

    def __init__(
        self,
        gaps: Iterable[Gap],
        missed: Iterable[Record | Gap],
        end: EventPlace | None,
        position: Position | None,
        wires: frozenset[bytes] = frozenset(),
    ) -> None:
        self._items: deque[Record | Gap] = deque([*gaps, *missed])
        self._end = end
        self._position = position
        self._wires = wires
        self._replayed = 0
        self._is_done = False

    def __len__(self) -> int:
        return len(self._items) + (not self._is_done)

    @property
    def ends_page(self) -> bool:
        """Whether a page of events was taken, and more follows."""
        return self._replayed > 0 and not self._replayed % PAGE and bool(self._items)

    def take(self) -> Event | Gap | CaughtUp | None:
        """Return the next item; None: that was all."""
        if not self._items:
            if self._is_done:
                return None
            self._is_done = True
            return CaughtUp(id=None if self._end is None else str(self._end), replayed=self._replayed)
        item = self._items.popleft()
        if isinstance(item, Gap):
            return item
        self._replayed += 1
        target = item.target_for(self._wires) or item.targets[0]
        event = make_event(item.event or b"null", target, self._place(item))
        return event if item.key is None else keyed_event(event, item.key)

    def _place(self, record: Record) -> EventPlace | None:
        position, end = self._position, self._end
        if position is None or end is None:
            return None
        cursors, ahead = list(position.cursors), dict(position.ahead)
        if record.cursor:
            cursors[record.lane] = record.cursor
        else:
            ahead[record.lane, record.sender] = record.seq
        self._position = Position(cursors, ahead)
        return EventPlace(end.codec, self._position, record.lane, record.sender, record.seq)
