"""Notifies connections of gaps: a queue at once, a bare sink at most once a second: `ConnectionNotifier`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final

from attrs import define, evolve, field

from backplane_core._inbound import slices
from backplane_core._local.entry import Entry
from backplane_core._runtime.reporter import Reporter
from backplane_core._runtime.system import System
from backplane_core.observe import Gap

__all__ = ["ConnectionNotifier"]

BETWEEN_GAPS_S: Final = 1.0
"""A storm of holes is one fact for a socket's owner, who will reload once."""
BETWEEN_LOOKS_S: Final = 0.1
"""Sinks that are due one after the other are notified together."""


@define(eq=False)
class ConnectionNotifier:
    """Hands gaps to connections, each its own part, and merges what comes too often.

    Args:
        reporter: Calls the host's callbacks.
        system: The clocks.
    """

    _reporter: Reporter
    _system: System
    # Bare sinks that have to wait for their second to be over, by the look that finds them due: there are a dozen looks
    # at most, however many sinks.
    _late: dict[int, deque[Entry]] = field(factory=dict[int, deque[Entry]], init=False)
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)

    @property
    def waits(self) -> bool:
        """Whether anyone has a gap yet to come."""
        return bool(self._late)

    def notify(self, entries: Iterable[Entry], gap: Gap) -> bool:
        """Notify each of the part of the gap that it was attached for; return whether any of them listens."""
        now = self._system.monotonic()
        to_wall = self._system.wall() - now
        listening = False
        for entry in entries:
            if entry.on_gap is None or entry.sink is None:
                continue
            listening |= entry.hears_gaps
            since = entry.since + to_wall
            own = gap if since <= gap.since else evolve(gap, since=min(since, gap.until))
            if entry.queue is not None:
                # It merges what stands together, and must know of each hole before the first event behind it.
                entry.on_gap(own)
            elif entry.pending_gap is not None:
                entry.pending_gap = entry.pending_gap.merge(own)
            elif now - entry.notified_at < BETWEEN_GAPS_S:
                entry.pending_gap = own
                look = int((entry.notified_at + BETWEEN_GAPS_S) / BETWEEN_LOOKS_S) + 1
                self._late.setdefault(look, deque()).append(entry)
            else:
                entry.notified_at = now
                self._reporter.notify(entry.on_gap, own)
        self._look_later()
        return listening

    def close(self) -> None:
        """Notify now of what is held back, and leave no timer behind."""
        late, self._late = self._late, {}
        for look in sorted(late):
            for entry in late[look]:
                self._notify_late(entry)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_later(self) -> None:
        """Come back when the first that is late may be notified."""
        if self._timer is None and self._late:
            wait_s = min(self._late) * BETWEEN_LOOKS_S - self._system.monotonic()
            self._timer = asyncio.get_running_loop().call_later(max(wait_s, 0), self._look)

    def _look(self) -> None:
        monotonic = self._system.monotonic
        now = monotonic()
        for look in sorted(self._late):
            if look * BETWEEN_LOOKS_S > now:
                break
            late = self._late[look]
            while late:
                for _ in range(min(slices.SLICE_ENTRIES, len(late))):
                    self._notify_late(late.popleft())
                if monotonic() - now >= slices.SLICE_S:
                    self._timer = asyncio.get_running_loop().call_later(0, self._look)
                    return
            del self._late[look]
        self._timer = None
        self._look_later()

    def _notify_late(self, entry: Entry) -> None:
        gap, entry.pending_gap = entry.pending_gap, None
        if gap is not None and entry.on_gap is not None:
            entry.notified_at = self._system.monotonic()
            self._reporter.notify(entry.on_gap, gap)
