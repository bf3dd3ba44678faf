"""A fair share of the event loop: a publisher in a tight loop must not starve the writer or its neighbours."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from types import coroutine
from typing import Final

__all__ = ["BYTES_PER_UNIT", "SINKS_PER_UNIT", "UNITS", "LoopBudget"]

UNITS: Final = 256
"""What all publishers together may use up in one turn of the loop: some 1 ms of work, a fifth of what people call a
stall. A unit is the work on one small event, some 4 µs. With fewer, more time would go to the turns themselves."""
BYTES_PER_UNIT: Final = 4096
"""Each so many bytes of an event count as one event more: so a turn is one large write to the socket at most."""
SINKS_PER_UNIT: Final = 8
"""Each so many sinks of this pod that take an event count as one event more."""


class LoopBudget:
    """What publishers may use up until the loop turns. `publish` adds to `used` in place, since it runs once per event.

    The invariant: between two turns publishers use up `UNITS`, and one event more for each of them. Those that
    wait for a turn get equal shares of the next: with one it may take 256 small events at once, 64 take 4 each, and
    1,000 take one each, so that anyone who publishes a single event among them waits only for one event of each.
    Without shares the first to go on would take all each time, and the other 63 one event per turn.

    Args:
        max_messages: How many messages the outbox takes. A turn uses at most a quarter, so that it is not outrun.
        max_bytes: The same in bytes.

    Attributes:
        used: Units since the loop last turned.
        limit: A publisher that finds `used` at this, or beyond, waits for the loop.
    """

    __slots__ = ("_ending", "_per_turn", "_share", "_waiting", "limit", "used")

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._per_turn = max(1, min(UNITS, max_messages // 4, max_bytes // BYTES_PER_UNIT // 4))
        self.used = 0
        self.limit = self._share = self._per_turn
        self._waiting = 0
        self._ending = False

    @coroutine
    def renew(self) -> Generator[None]:
        """Let the loop run, then begin a share of the new turn."""
        self._waiting += 1
        if not self._ending:
            # Reset only after the loop has turned, so that all publishers share one budget.
            self._ending = True
            asyncio.get_running_loop().call_soon(self._begin)
        yield  # `asyncio.sleep(0)` takes two more frames, for which each of many publishers would pay in each turn
        self.limit = self.used + self._share

    def _begin(self) -> None:
        self._share = max(1, self._per_turn // self._waiting)
        self._ending = False
        self._waiting = self.used = 0
        self.limit = self._share
