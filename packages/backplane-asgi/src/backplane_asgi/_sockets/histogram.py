"""Counts of how long something took, by upper bounds: can be added up over pods."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from attrs import define, field

__all__ = ["Histogram"]

BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""From what a publish takes on an idle pod to what a client gives up on."""


@define
class Histogram:
    """How many took how long.

    Args:
        total_s: The sum of all times, in seconds.
    """

    total_s: float = field(default=0.0, init=False)
    _counts: list[int] = field(factory=lambda: [0] * (len(BOUNDS_S) + 1), init=False)

    def observe(self, seconds: float) -> None:
        """Count one that took so long."""
        self._counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.total_s += seconds

    def buckets(self) -> Iterator[tuple[str, int]]:
        """Yield each upper bound and how many took at most so long; the last one is all."""
        yield from zip([*[f"{bound:g}" for bound in BOUNDS_S], "+Inf"], accumulate(self._counts), strict=True)
