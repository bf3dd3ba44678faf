"""Where a pod's memory of the logs lacks events, sans-IO: `Hole`, `Holes`."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from attrs import define, field, frozen

from backplane_core.observe import Gap

__all__ = ["Hole", "Holes"]

MAX_HOLES: Final = 1_024
"""Holes that are remembered. With the oldest go the records before it, so that nobody comes back across it unaware."""


@frozen
class Hole:
    """Events that this pod missed as well, or that a log lost: a client that comes back across it is notified.

    Args:
        serial: Behind which record it stands.
        lane: Its lane; None: any.
        gap: What was reported.
        spares: A client that has got this far with this sender misses nothing: `(origin_key, seq)`.
    """

    serial: int
    lane: int | None
    gap: Gap
    spares: tuple[str, int] | None = None

    def is_behind(self, starts: Sequence[int | None]) -> bool:
        """Return whether a client that goes on behind these serials, by lane, comes across it; None: not in a lane."""
        if self.lane is None:
            return any(start is not None and self.serial >= start for start in starts)
        start = starts[self.lane]
        return start is not None and self.serial >= start


@define(eq=False)
class Holes:
    """The last holes, in order."""

    _holes: deque[Hole] = field(factory=deque[Hole], init=False)

    def add(self, hole: Hole) -> Hole | None:
        """Remember a hole; return the one that is forgotten for it."""
        oldest = self._holes.popleft() if len(self._holes) >= MAX_HOLES else None
        self._holes.append(hole)
        return oldest

    def behind(self, starts: Sequence[int | None]) -> list[Hole]:
        """Return those that a client comes across which goes on behind these serials, by lane."""
        return [hole for hole in self._holes if hole.is_behind(starts)]
