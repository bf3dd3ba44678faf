"""Notifies connections of holes: before their next event, and all of them in slices of the loop's time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from attrs import define, field

from backplane_core._inbound import slices
from backplane_core._inbound.connection_notifier import ConnectionNotifier
from backplane_core._inbound.holes import Hole, Holes
from backplane_core._inbound.subscriptions import Subscriptions
from backplane_core._local.entry import Entry
from backplane_core._runtime.system import System
from backplane_core.observe import Gap

__all__ = ["HoleNotifier"]

BETWEEN_WALKS_S: Final = 1.0
FEW: Final = 8
"""Connections that are notified at once: that costs less than to owe them something."""
MAX_WALKED: Final = 10_000
"""Connections that walks go to within a second, until the next walk waits for its end: anyone on the bus can make
thousands of holes a second. Until then each is notified before its next event."""


@define(eq=False)
class HoleNotifier:
    """Owes each hole to the connections that it concerns, until they are notified; see `Holes`.

    Args:
        system: The clocks.
        subscriptions: Knows which channels bring events for a connection.
        connections: Notifies them.
        holes: What is owed.
    """

    _system: System
    _subscriptions: Subscriptions
    _connections: ConnectionNotifier
    holes: Holes = field(factory=Holes, init=False)
    # The walk under way, and the last hole that was known when it began; or when the next one is to begin.
    _walk: Iterator[Entry] = field(factory=lambda: iter(()), init=False)
    _walks_for: int = field(default=0, init=False)
    _next: asyncio.Handle | None = field(default=None, init=False)
    # How many connections were walked to in this second.
    _second_began: float = field(default=float("-inf"), init=False)
    _walked: int = field(default=0, init=False)

    def report(self, gap: Gap) -> None:
        """Owe a hole to its channel's connections, or notify them if they are few."""
        listeners = self._subscriptions.listeners(gap.channel)
        if listeners is not None and len(listeners) <= FEW:
            self._connections.notify(listeners, gap)
            return
        self.holes.add(gap, self._system.monotonic())
        self._walk_soon()

    async def notify_before(self, entries: Sequence[Entry]) -> None:
        """Notify connections of the holes that they are owed, before they get an event; in slices of the loop's time.

        Args:
            entries: The connections that are to get it.
        """
        last, monotonic = self.holes.last, self._system.monotonic
        owed = (entry for entry in entries if entry.last_hole < last)
        ends_at = monotonic() + slices.SLICE_S
        while part := [*islice(owed, slices.SLICE_ENTRIES)]:
            self.notify_now(part)
            if monotonic() >= ends_at:
                await asyncio.sleep(0)
                ends_at = monotonic() + slices.SLICE_S

    def notify_now(self, entries: Iterable[Entry]) -> None:
        """Notify connections of the holes that they are owed, at once."""
        holes, channels_of = self.holes, self._subscriptions.channels_of
        # Nearly all are owed the same: they are notified together.
        by_owed: dict[tuple[Hole, ...], list[Entry]] = {}
        for entry in entries:
            if entry.last_hole < holes.last:
                if owed := holes.owed(entry, channels_of(entry)):
                    by_owed.setdefault(owed, []).append(entry)
                entry.last_hole = holes.last
        for owed, concerned in by_owed.items():
            merged: dict[str, Gap] = {}
            for hole in owed:
                known = merged.get(hole.gap.channel)
                merged[hole.gap.channel] = hole.gap if known is None else known.merge(hole.gap)
            for gap in merged.values():
                self._connections.notify(concerned, gap)

    # Walks

    def _walk_soon(self) -> None:
        if self._next is not None or not self.holes.pending:
            return
        loop, now = asyncio.get_running_loop(), self._system.monotonic()
        if now - self._second_began >= BETWEEN_WALKS_S:
            self._second_began, self._walked = now, 0
        if self._walked < MAX_WALKED:
            self._next = loop.call_soon(self._begin_walk)
        else:
            self._next = loop.call_later(self._second_began + BETWEEN_WALKS_S - now, self._begin_walk)

    def _begin_walk(self) -> None:
        self._walks_for = self.holes.last
        self._walk = iter(self._concerned())
        self._go_on()

    def _concerned(self) -> Iterable[Entry]:
        """Return all connections that any hole may concern, each once."""
        found: dict[Entry, None] = {}
        for channel in self.holes.pending:
            listeners = self._subscriptions.listeners(channel)
            if listeners is None:
                return self._subscriptions.everybody()
            found.update(dict.fromkeys(listeners))
        return found

    def _go_on(self) -> None:
        ends_at = self._system.monotonic() + slices.SLICE_S
        while part := [*islice(self._walk, slices.SLICE_ENTRIES)]:
            self._walked += len(part)
            self.notify_now(part)
            if self._system.monotonic() >= ends_at:
                # Not `call_soon`, which would come before what is due by now: two slices would follow each other.
                self._next = asyncio.get_running_loop().call_later(0, self._go_on)
                return
        self._next = None
        self.holes.settled(self._walks_for)
        self._walk_soon()

    def close(self) -> None:
        """Notify everyone now, and leave no walk behind."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        self.notify_now(self._concerned())
        self.holes.settled(self.holes.last)
