"""Holes in a pod's memory of the logs, sans-IO: `Hole`, `Holes`."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from attrs import define, field, frozen

from backplane_core.observe import Gap

__all__ = ["Hole", "Holes"]

MAX_HOLES: Final = 1_024
"""Holes that are remembered. When the oldest is forgotten, so are the records before it: no client can resume across
it without a gap."""


@frozen
class Hole:
    """Events that this pod missed too, or that a log lost: a client that resumes across it gets a gap.

    Args:
        serial: The record that it follows.
        lane: Its lane; None: any.
        gap: The gap that was reported.
        spares: `(origin_key, seq)`: a client that has this number of this sender has missed nothing.
    """

    serial: int
    lane: int | None
    gap: Gap
    spares: tuple[str, int] | None = None

    def is_behind(self, starts: Sequence[int | None]) -> bool:
        """Return whether it lies after these serials (by lane), at which a client resumes; None: not in that lane."""
        if self.lane is None:
            return any(start is not None and self.serial >= start for start in starts)
        start = starts[self.lane]
        return start is not None and self.serial >= start


@define(eq=False)
class Holes:
    """The last holes, in order."""

    _holes: deque[Hole] = field(factory=deque[Hole], init=False)

    def add(self, hole: Hole) -> Hole | None:
        """Remember a hole; return the one that is forgotten to make room."""
        oldest = self._holes.popleft() if len(self._holes) >= MAX_HOLES else None
        self._holes.append(hole)
        return oldest

    def behind(self, starts: Sequence[int | None]) -> list[Hole]:
        """Return the holes after these serials (by lane), at which a client resumes."""
        return [hole for hole in self._holes if hole.is_behind(starts)]
