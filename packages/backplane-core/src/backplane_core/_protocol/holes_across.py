"""Holes across a link that was replaced, which count only if their sender says so: `HolesAcross`."""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import Final

from attrs import define, field, frozen

__all__ = ["HoleAcross", "HolesAcross"]

MAX_HOLES: Final = 65_536
"""Holes that are remembered, one per sender and channel: 16 MiB."""


@frozen
class HoleAcross:
    """A hole across a link that was replaced: the gap of the outage covers it, unless its sender says otherwise.

    Args:
        missing: How many frames.
        since: When the frame before them passed the broker, at the earliest.
        at: When the frame behind them was read.
    """

    missing: int
    since: float
    at: float


@define
class HolesAcross:
    """The holes that the gaps of outages cover as far as this pod knows, in the order in which they were found."""

    _holes: OrderedDict[tuple[str, str], HoleAcross] = field(
        factory=OrderedDict[tuple[str, str], HoleAcross], init=False
    )

    def remember(self, channel: str, origin: str, hole: HoleAcross) -> bool:
        """Remember a hole, together with an earlier one there; return False if there is no room."""
        key = (channel, origin)
        known = self._holes.pop(key, None)
        if known is not None:
            hole = HoleAcross(hole.missing + known.missing, known.since, hole.at)
        elif len(self._holes) >= MAX_HOLES:
            return False
        self._holes[key] = hole
        return True

    def take(self, channel: str, origin: str) -> HoleAcross | None:
        """Return the hole of a sender on a channel, and forget it; None: there is none."""
        return self._holes.pop((channel, origin), None)

    def expire(self, found_before: float, most: int) -> None:
        """Forget holes that were found before some moment, at most so many."""
        for key, hole in [*islice(self._holes.items(), most)]:
            if hole.at >= found_before:
                break
            del self._holes[key]
