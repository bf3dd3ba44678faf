"""Tells connections of gaps: a queue at once, in its stream; a bare sink at once, and then at most once a second.

Anyone on the bus can make thousands of holes a second, and each costs a walk over all connections of its channel. So in
a storm a channel's holes are merged, and told once a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final, TypeAlias

from attrs import define, evolve, field

from backplane_core._local.registry import Entry
from backplane_core._runtime.reporter import Reporter
from backplane_core._runtime.system import System
from backplane_core.observe import Gap

__all__ = ["GapNotifier"]

BETWEEN_GAPS_S: Final = 1.0
"""A storm of holes is one fact for a socket's owner, who will reload once."""
BETWEEN_LOOKS_S: Final = 0.1
"""Sinks that are due one after the other are told together: each look goes through all of them."""

MAX_TELLS: Final = 10_000
"""Connections told of holes within a second before further holes are merged: some 5 ms of work."""

SLICE_S: Final = 0.003
"""How long telling holds the loop before it gives it a turn, as delivery does."""
SLICE_ENTRIES: Final = 64
"""Connections told between two looks at the clock: some 0.1 ms of work, and of the host's."""

Hole: TypeAlias = tuple[Gap, Callable[[], Sequence[Entry]]]


@define
class GapNotifier:
    """Hands gaps to attachments.

    Args:
        reporter: Calls the host's callbacks.
        system: The clocks.
    """

    _reporter: Reporter
    _system: System
    # Channels with a hole in this second, what their listeners were not told of, and how many were told in all.
    _holes: dict[str, Hole | None] = field(factory=dict[str, Hole | None], init=False)
    _holes_since: float = field(default=0.0, init=False)
    _tells: int = field(default=0, init=False)
    _late: dict[Entry, None] = field(factory=dict[Entry, None], init=False)
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)

    def tell_hole(self, gap: Gap, listeners: Callable[[], Sequence[Entry]]) -> None:
        """Tell a channel's listeners of a hole; in a storm, of more holes within a second once and merged."""
        if not self._holes:
            self._holes_since, self._tells = self._system.monotonic(), 0
        channel = gap.channel
        kept = self._holes.get(channel)
        if kept is not None:
            self._holes[channel] = (kept[0].merge(gap), listeners)
        elif channel in self._holes and self._tells >= MAX_TELLS:
            self._holes[channel] = (gap, listeners)
        else:
            entries = listeners()
            self._holes[channel] = None
            self._tells += 1 + len(entries)
            self.tell(entries, gap)
        self._look_later()

    def tell(self, entries: Iterable[Entry], gap: Gap) -> bool:
        """Tell each entry of the part of the gap that it was attached for; return whether any of them listens."""
        now = self._system.monotonic()
        to_wall = self._system.wall() - now
        listening = False
        for entry in entries:
            if entry.on_gap is None or entry.sink is None:
                continue
            listening = True
            since = entry.since + to_wall
            own = gap if since <= gap.since else evolve(gap, since=min(since, gap.until))
            if entry.queues:
                # It merges what stands together, and must know of each hole before the first event behind it.
                entry.on_gap(own)
            elif entry.untold is not None:
                entry.untold = entry.untold.merge(own)
            elif now - entry.told_at < BETWEEN_GAPS_S:
                entry.untold = own
                self._late[entry] = None
            else:
                entry.told_at = now
                self._reporter.notify(entry.on_gap, own)
        self._look_later()
        return listening

    async def tell_all(self, entries: Sequence[Entry], gap: Gap) -> bool:
        """Do as `tell`, in slices of the loop's time; whoever attached since it began has missed nothing of it.

        Cancellation: the others are told at once, as nobody will come back to it.
        """
        monotonic = self._system.monotonic
        began_at = slice_began_at = monotonic()
        concerned = (entry for entry in entries if entry.since <= began_at)
        listening = False
        try:
            while part := [*islice(concerned, SLICE_ENTRIES)]:
                listening |= self.tell(part, gap)
                if monotonic() - slice_began_at >= SLICE_S:
                    await asyncio.sleep(0)
                    slice_began_at = monotonic()
        finally:
            self.tell(concerned, gap)
        return listening

    def close(self) -> None:
        """Tell now what is still untold, and leave no timer behind."""
        self._tell_holes()
        self._tell_late(list(self._late))
        if self._timer is not None:
            self._timer.cancel()

    def _look_later(self) -> None:
        """Come back when the first that is late may be told."""
        if self._timer is None and (self._late or self._holes):
            told_at = [entry.told_at for entry in self._late]
            if self._holes:
                told_at.append(self._holes_since)
            wait_s = min(told_at) + BETWEEN_GAPS_S - self._system.monotonic()
            self._timer = asyncio.get_running_loop().call_later(max(wait_s, BETWEEN_LOOKS_S), self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._system.monotonic()
        due = now - BETWEEN_GAPS_S
        if self._holes and self._holes_since <= due:
            self._tell_holes()  # first: it may join what is late
        late = (entry for entry in [*self._late] if entry.told_at <= due)
        while part := [*islice(late, SLICE_ENTRIES)]:
            self._tell_late(part)
            if self._system.monotonic() - now >= SLICE_S:
                if self._timer is not None:  # a hole that was told just now has set one
                    self._timer.cancel()
                self._timer = asyncio.get_running_loop().call_later(0, self._look)
                return
        self._look_later()

    def _tell_holes(self) -> None:
        holes, self._holes = self._holes, {}
        now = self._system.wall()
        for hole, listeners in filter(None, holes.values()):
            # Whoever attached meanwhile hears of it too, so the span goes on until now.
            self.tell_hole(evolve(hole, until=max(hole.until, now)), listeners)

    def _tell_late(self, entries: Iterable[Entry]) -> None:
        now = self._system.monotonic()
        for entry in entries:
            self._late.pop(entry, None)
            gap, entry.untold = entry.untold, None
            if gap is not None and entry.on_gap is not None:
                entry.told_at = now
                self._reporter.notify(entry.on_gap, gap)
