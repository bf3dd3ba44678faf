"""A queue that drops its oldest events, and knows how old those are."""

from __future__ import annotations

from collections import deque
from typing import Final, Unpack

from backplane_core._local.connection_host import ConnectionHost
from backplane_core._local.event_queue import EventQueue, QueueOptions
from backplane_core.event import Event

__all__ = ["DroppingQueue"]

BETWEEN_NOTES_S: Final = 0.1
"""How much earlier than need be a gap may begin."""


class DroppingQueue(EventQueue):
    """Drops what waited longest, and leaves a gap that holds the moment at which that passed the bus.

    What is dropped came long ago, however recently the queue overflowed. So it notes now and then how many events had
    come by then, and when the next one can have passed the bus at the earliest.

    An example with `max_pending=2`. Events 1 and 2 come at 10.0 s, and nobody reads them. Event 3 comes at 70.0 s, and
    event 1 has to go: the gap is from 10.0 to 70.0 s. If it began when event 3 came, someone who asks what was changed
    since then would not see event 1.

    Args:
        host: Counts what is dropped.
        conn_id: The connection's id.
        options: Of `EventQueue`.
    """

    __slots__ = ("_accepted", "_notes")

    def __init__(self, host: ConnectionHost, conn_id: str, **options: Unpack[QueueOptions]) -> None:
        super().__init__(host, conn_id, **options)
        self._accepted = 0
        # Events that had come, and when the next one passed the bus at the earliest: one note for the first event that
        # is queued, and those of later events.
        self._notes: deque[tuple[int, float]] = deque()

    def accept(self, event: Event) -> bool:
        """Queue an event, and drop the oldest ones if there is no room."""
        earliest, notes = self._host.bus.earliest(), self._notes
        if not notes or earliest - notes[-1][1] >= BETWEEN_NOTES_S:
            self._forget()
            notes.append((self._accepted, earliest))
        taken = super().accept(event)
        self._accepted += taken
        return taken

    def _oldest_passed_at(self) -> float:
        self._forget()
        return self._notes[0][1]

    def _forget(self) -> None:
        """Forget the notes of events that were read or dropped."""
        first, notes = self._accepted - self.events, self._notes
        while len(notes) > 1 and notes[1][0] <= first:
            notes.popleft()
