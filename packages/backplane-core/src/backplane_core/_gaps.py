"""Tells connections of gaps: at once, and then at most once a second each, merged.

A channel's holes are merged before they are told, so that one costs no walk over all connections: anyone on the bus can
make thousands of them a second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from attrs import define, evolve, field

from backplane_core._registry import Entry
from backplane_core.observe import Gap

__all__ = ["GapTeller"]

BETWEEN_GAPS_S: Final = 1.0
"""A storm of holes is one fact for a socket's owner, who will reload once."""

Hole: TypeAlias = tuple[Gap, Callable[[], Iterable[Entry]]]
"""What is missing on a channel, and who should hear of it."""


@define
class GapTeller:
    """Hands gaps to attachments.

    Args:
        call: Calls a host's callback and contains what it raises.
    """

    call: Callable[[Callable[[Gap], None], Gap], None]
    # Channels whose listeners were told within the last second, and what they were not told since.
    _holes: dict[str, Hole | None] = field(factory=dict[str, Hole | None], init=False)
    _late: dict[Entry, None] = field(factory=dict[Entry, None], init=False)
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)

    def tell_hole(self, gap: Gap, listeners: Callable[[], Iterable[Entry]]) -> None:
        """Tell a channel's listeners of a hole; of more holes within a second after that, once and merged."""
        channel = gap.channel
        if channel not in self._holes:
            self._holes[channel] = None
            self.tell(listeners(), gap)
            self._tell_later()
            return
        kept = self._holes[channel]
        self._holes[channel] = (gap if kept is None else kept[0].merge(gap), listeners)

    def tell(self, entries: Iterable[Entry], gap: Gap) -> bool:
        """Tell each entry of the part of the gap that it was attached for; return whether any of them listens."""
        now = time.monotonic()
        listening = False
        for entry in entries:
            if entry.on_gap is None or entry.sink is None:
                continue
            listening = True
            own = gap if entry.since <= gap.since else evolve(gap, since=min(entry.since, gap.until))
            if entry.untold is not None:
                entry.untold = entry.untold.merge(own)
            elif now - entry.told_at < BETWEEN_GAPS_S:
                entry.untold = own
                self._late[entry] = None
            else:
                entry.told_at = now
                self.call(entry.on_gap, own)
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
        holes, self._holes = self._holes, {}
        late, self._late = self._late, {}
        now = time.monotonic()
        for entry in late:
            gap, entry.untold = entry.untold, None
            if gap is not None and entry.on_gap is not None:
                entry.told_at = now
                self.call(entry.on_gap, gap)
        for gap, listeners in filter(None, holes.values()):
            # Whoever attached meanwhile hears of it too, so the span goes on until now.
            self.tell_hole(evolve(gap, until=max(gap.until, time.time())), listeners)
