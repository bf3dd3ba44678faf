"""Tells connections of gaps: a queue at once, in its stream; a bare sink at once, and then at most once a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from attrs import define, evolve, field

from backplane_core._registry import Entry
from backplane_core._surroundings import Surroundings
from backplane_core.observe import Gap

__all__ = ["GapTeller"]

BETWEEN_GAPS_S: Final = 1.0
"""A storm of holes is one fact for a socket's owner, who will reload once."""


@define
class GapTeller:
    """Hands gaps to attachments.

    Args:
        call: Calls a host's callback and contains what it raises.
        surroundings: The clocks.
    """

    _call: Callable[[Callable[[Gap], None], Gap], None]
    _surroundings: Surroundings
    _late: dict[Entry, None] = field(factory=dict[Entry, None], init=False)
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)

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
        if self._late and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BETWEEN_GAPS_S, self._tell_late)
        return listening

    def close(self) -> None:
        """Tell now what is still untold, and leave no timer behind."""
        if self._timer is not None:
            self._timer.cancel()
        self._tell_late()

    def _tell_late(self) -> None:
        self._timer = None
        late, self._late = self._late, {}
        now = self._surroundings.monotonic()
        for entry in late:
            gap, entry.untold = entry.untold, None
            if gap is not None and entry.on_gap is not None:
                entry.told_at = now
                self._call(entry.on_gap, gap)
