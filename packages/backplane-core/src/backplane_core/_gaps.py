"""Tells connections of gaps: at once, and then at most once a second each, merged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final

from attrs import define, evolve, field

from backplane_core._registry import Entry
from backplane_core.observe import Gap

__all__ = ["GapTeller"]

BETWEEN_GAPS_S: Final = 1.0
"""A storm of holes is one fact for a socket's owner, who will reload once."""


@define
class GapTeller:
    """Hands gaps to attachments.

    Args:
        call: Calls a host's callback and contains what it raises.
    """

    call: Callable[[Callable[[Gap], None], Gap], None]
    _late: dict[Entry, None] = field(factory=dict[Entry, None], init=False)
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)

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
        now = time.monotonic()
        for entry in late:
            gap, entry.untold = entry.untold, None
            if gap is not None and entry.on_gap is not None:
                entry.told_at = now
                self.call(entry.on_gap, gap)
