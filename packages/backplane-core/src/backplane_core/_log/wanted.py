"""Decides which records belong to a history: `Wanted`."""

from __future__ import annotations

from contextlib import suppress

from attrs import frozen

from backplane_core._log.record import Record, record_of
from backplane_core._protocol.frame import Head
from backplane_core._protocol.position import EventMark
from backplane_core.errors import EnvelopeError

__all__ = ["Wanted"]


@frozen
class Wanted:
    """The events of one target that a reader with these other targets may get.

    Args:
        wire: The target's wire form.
        wires: The wire forms of all targets of the reader, including this one: it gets events for intersections of
            these, and none that exclude one of them.
        conn_id: The reader's connection: it gets no event that excludes it; None: it has none.
        but: An event to leave out, since only those before it are wanted; None: no event.
        but_cursor: Its cursor in the log, if it has no number.
    """

    wire: bytes
    wires: frozenset[bytes]
    conn_id: str | None = None
    but: EventMark | None = None
    but_cursor: str = ""

    def has(self, record: Record) -> bool:
        """Return whether a record belongs to the history."""
        if record.event is None or self.wire not in record.targets or self.conn_id in record.exclude:
            return False
        if record.terms and not any(term[0] == self.wire and self.wires.issuperset(term) for term in record.terms):
            return False
        if any(map(self.wires.issuperset, record.barred)):
            return False
        but = self.but
        if but is None or record.lane != but.lane:
            return True
        if but.seq:
            return (record.sender, record.seq) != (but.sender, but.seq)
        return record.cursor != self.but_cursor

    def may_have(self, head: Head | None, lane: int, cursor: str) -> bool:
        """Return whether an entry belongs to the history, or is a copy of one that does."""
        if head is None:
            return False
        with suppress(EnvelopeError):
            return self.has(record_of(head, lane, cursor))
        return False
