"""A queue in which a newer event takes the place of an older one of its target and key: `LatestQueue`."""

from __future__ import annotations

from typing import Unpack

from backplane_core._local.connection_host import ConnectionHost
from backplane_core._local.event_queue import EventQueue, QueueOptions
from backplane_core._local.keyed_items import KeyedItems
from backplane_core.event import Event

__all__ = ["LatestQueue"]


class LatestQueue(EventQueue):
    """Makes room by taking out outdated events: those that a newer one of the same target and key stands behind.

    They are counted as conflated, and leave no gap: to anyone who reads the newest nothing is missing. Only where none
    is outdated is the oldest event dropped, and that leaves a gap, as in a `DroppingQueue`.

    An example with `max_pending=3`. A=1, B=7 and A=2 wait, and B=8 comes. A=1 became outdated first, so it goes, and
    B=7, A=2, B=8 wait. If C=5 comes next, B=7 goes. If D=4 comes then, nothing is outdated: A=2 is dropped, with a gap.

    Args:
        host: Counts what is taken out, and what is dropped.
        conn_id: The connection's id.
        options: Of `EventQueue`.
    """

    __slots__ = ("_conflates_always", "_keyed")

    def __init__(self, host: ConnectionHost, conn_id: str, **options: Unpack[QueueOptions]) -> None:
        super().__init__(host, conn_id, **options)
        self.items = self._keyed = KeyedItems()
        self._conflates_always = options["conflate"] == "always"

    def accept(self, event: Event) -> bool:
        """Queue an event, and take out, or drop, what there is no room for then."""
        size = len(event.json)
        if not self.is_open or size > self._max_pending_bytes:
            return self._overflowed(event)
        self._keyed.append_event(event, self._host.bus.earliest())
        self.events += 1
        self.bytes += size
        while self._keyed.has_outdated and (self._conflates_always or self._is_too_full):
            self.events -= 1
            self.bytes -= len(self._keyed.take_outdated().json)
            self._host.reporter.counters.conflated += 1
        while self._is_too_full:
            self._drop_oldest(self._keyed.first_passed_at)
        if self.waiter.waiting:
            self.waiter.wake()
        return True

    @property
    def _is_too_full(self) -> bool:
        return self.events > self._max_pending or self.bytes > self._max_pending_bytes
