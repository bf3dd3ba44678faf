"""An event loop whose clock jumps to the next timer: minutes run in milliseconds, each time in the same way."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from math import ceil
from typing import Any, Final, TypeVar

__all__ = ["TICKS_PER_S", "Deadlock", "VirtualLoop", "on_tick", "run"]

T = TypeVar("T")

TICKS_PER_S: Final = 1 << 14
"""Moments are whole ticks of 61 µs: a power of two, so that sums and differences of moments are exact."""


MAX_TURNS: Final = 1_000_000


def on_tick(moment: float) -> float:
    """Return the first tick that is not before the moment."""
    return ceil(moment * TICKS_PER_S) / TICKS_PER_S


class Deadlock(RuntimeError):  # noqa: N818 -- the field's name for it
    """Everybody waits for somebody else: nothing is scheduled, and the run is not over."""


class VirtualLoop(asyncio.BaseEventLoop):
    """A loop without sockets, threads and signals.

    It is its own selector: whenever the base loop would sleep until the next timer, the clock is put forward instead.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._selector = self
        self.turns = 0
        self.holds: list[tuple[float, float]] = []
        """From when to when code held the loop."""

    def time(self) -> float:
        """The virtual clock, from 0, in seconds."""
        return self._now

    def spend(self, seconds: float) -> None:
        """Be busy for so long, as code that computes or blocks is: timers come late."""
        self._now = on_tick(self._now + seconds)

    def hold(self, seconds: float) -> None:
        """Be busy for so long, and write it down."""
        began = self._now
        self.spend(seconds)
        if seconds:
            self.holds.append((began, self._now))

    @property
    def held_s(self) -> float:
        """For how long code held the loop, in all."""
        return sum([until - since for since, until in self.holds])

    def select(self, timeout: float | None) -> tuple[()]:
        """Take the base loop's time to sleep, and do not sleep.

        Raises:
            Deadlock: It would be for ever.
        """
        self.turns += 1
        if self.turns > MAX_TURNS:
            raise Deadlock(f"not over after {MAX_TURNS} turns: somebody spins")
        if timeout is None:
            raise Deadlock("nothing is scheduled, and nobody is done")
        if timeout > 0:
            self.spend(timeout)
        return ()

    def _process_events(self, event_list: object) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps, so nobody needs to be woken."""


def run(loop: VirtualLoop, main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, and close the loop; tasks that are left by then are cancelled."""
    try:
        return loop.run_until_complete(main)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
