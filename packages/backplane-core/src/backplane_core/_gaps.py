"""Tells connections of gaps: a queue at once, in its stream; a bare sink at once, and then at most once a second.

Anyone on the bus can make thousands of holes a second, and each costs a walk over all connections of its channel. So in
a storm a channel's holes are merged, and told once a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

from attrs import define, evolve, field

from backplane_core._registry import Entry
from backplane_core._surroundings import Surroundings
from backplane_core.observe import Gap

__all__ = ["GapTeller"]

BETWEEN_GAPS_S: Final = 1.0
"""A storm of holes is one fact for a socket's owner, who will reload once."""

MAX_TELLS: Final = 10_000
"""Connections told of holes in that time before the rest is merged: some 5 ms of work."""

Hole: TypeAlias = tuple[Gap, Callable[[], Sequence[Entry]]]


@define
class GapTeller:
    """Hands gaps to attachments.

    Args:
        call: Calls a host's callback and contains what it raises.
        surroundings: The clocks.
    """

    _call: Callable[[Callable[[Gap], None], Gap], None]
    _surroundings: Surroundings
    # Channels whose listeners were told within the last second, and what they were not told since.
    _holes: dict[str, Hole | None] = field(factory=dict[str, Hole | None], init=False)
    _tells: int = field(default=0, init=False)
    _late: dict[Entry, None] = field(factory=dict[Entry, None], init=False)
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)

    def tell_hole(self, gap: Gap, listeners: Callable[[], Sequence[Entry]]) -> None:
        """Tell a channel's listeners of a hole; in a storm, of more holes within a second once and merged."""
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
            self._tell_later()

    def tell(self, entries: Iterable[Entry], gap: Gap) -> bool:
        """Tell each entry of the part of the gap that it was attached for; return whether any of them listens."""
        now = self._surroundings.monotonic()
        to_wall = self._surroundings.wall() - now
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
                self._call(entry.on_gap, own)
        if self._late:
            self._tell_later()
        return listening

    def close(self) -> None:
        """Tell now what is still untold, and leave no timer behind."""
        holes, self._holes = self._holes, {}
        for gap, listeners in filter(None, holes.values()):
            self.tell(listeners(), gap)
        if self._timer is not None:
            self._timer.cancel()
        self._tell_late()

    def _tell_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BETWEEN_GAPS_S, self._tell_late)

    def _tell_late(self) -> None:
        self._timer = None
        self._tells = 0
        holes, self._holes = self._holes, {}
        for hole, listeners in filter(None, holes.values()):
            # Whoever attached meanwhile hears of it too, so the span goes on until now.
            self.tell_hole(evolve(hole, until=max(hole.until, self._surroundings.wall())), listeners)
        late, self._late = self._late, {}
        now = self._surroundings.monotonic()
        for entry in late:
            gap, entry.untold = entry.untold, None
            if gap is not None and entry.on_gap is not None:
                entry.told_at = now
                self._call(entry.on_gap, gap)
