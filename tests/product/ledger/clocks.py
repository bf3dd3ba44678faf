"""A pod's wall clock, which may be wrong: `PodClock`."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final
from unittest.mock import patch

from attrs import define, evolve, field
from backplane_core import DistributedBackplane, Gap
from backplane_core._runtime.system import System

__all__ = ["PodClock"]


LONGEST_RUN_S: Final = 900.0
"""A fault sets a clock wrong by more than that."""


@define
class PodClock:
    """The wall clock of one pod; the ledger's own is right.

    A gap says when it began and ended by its pod's clock, as it was set when somebody looked at it. Since a fault sets
    it wrong by far more than a run lasts, it is clear by which setting that was. If a gap is merged from two that were
    dated by different settings, it is as wide as the step between them, and covers all of the run.

    Args:
        ahead_s: By how much it is ahead, in seconds; less than 0: behind.
    """

    ahead_s: float
    _settings: list[float] = field(factory=list[float], init=False)

    def __attrs_post_init__(self) -> None:
        self._settings.append(self.ahead_s)

    def wall(self) -> float:
        """Return Unix time as this pod knows it."""
        return time.time() + self.ahead_s

    def set(self, ahead_s: float) -> None:
        """Set it to be so much ahead."""
        self.ahead_s = ahead_s
        self._settings.append(ahead_s)

    @contextmanager
    def given(self) -> Generator[None]:
        """Have the backplanes that are made inside look at this clock."""

        def make_system(_: DistributedBackplane) -> System:
            return System(wall=self.wall)

        with patch.object(DistributedBackplane, "_make_system", make_system):
            yield

    def corrected(self, gap: Gap) -> Gap:
        """Return the gap with its moments by the ledger's clock."""
        now = time.time()
        spans = [(gap.since - ahead_s, gap.until - ahead_s) for ahead_s in self._settings]
        spans = [(since, until) for since, until in spans if since <= now + 1 and until >= now - LONGEST_RUN_S]
        return evolve(gap, since=min([since for since, _ in spans]), until=max([until for _, until in spans]))
