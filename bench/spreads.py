"""From measured numbers to figures: percentiles, spreads, and ratios within one round."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TypeAlias

__all__ = ["Spread", "lost", "percentile", "ratios", "shown", "spread"]

Spread: TypeAlias = tuple[float, float, float]
"""Median, least and most."""


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value that this share of all values is not above.

    Args:
        ordered: From the least to the most; not empty.
        share: From 0 to 1.
    """
    return ordered[max(0, min(len(ordered) - 1, -int(-len(ordered) * share // 1) - 1))]


def spread(values: Sequence[float]) -> Spread:
    """Return the median, the least and the most."""
    return median(values), min(values), max(values)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Return the spread of the ratios, round by round: a busy minute slows both sides of one."""
    return spread([one / other for one, other in zip(ours, theirs, strict=True)])


def shown(spread: Spread, digits: int = 2) -> str:
    """Return a spread for a cell: `1.02 (0.98-1.10)`."""
    middle, least, most = (f"{value:,.{digits}f}" for value in spread)
    return middle if least == most else f"{middle} ({least}-{most})"


def lost(count: int) -> str:
    """Return a cell that says how many events were lost."""
    return f"{count:,} LOST" if count else "0"
