"""Holes that not everyone they concern has been notified of, sans-IO: `Holes`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from attrs import define, field, frozen

from backplane_core._local.entry import Entry
from backplane_core.observe import Gap

__all__ = ["Hole", "Holes"]

MAX_APART: Final = 64
"""Holes of one channel that are kept apart, since some connections know of the first ones already. Beyond it the oldest
two become one: a connection that knows of one of them alone hears of both, with a higher upper bound of what it missed.
"""


@frozen
class Hole:
    """Frames of one channel that are missing.

    Args:
        number: Holes are numbered from 1 on; those of one moment have several.
        at: When it was found, on the monotonic clock, in seconds.
        gap: What its connections are to be notified of.
    """

    number: int
    at: float = field(eq=False)
    gap: Gap = field(eq=False)


@define(eq=False)
class Holes:
    """What is owed to whom: a hole stays here until all connections of its channel have been notified.

    The invariant: a connection that was attached when a hole was found, and may have missed what is in it, is notified
    of the hole before it gets the next event. How many connections there are does not matter: finding a hole costs the
    same for one as for 20,000, since each connection only remembers the number of the last hole that it knows of.

    An example. Holes 7 and 8 are found, on the lanes 1 and 3. A connection knows of holes until 6, and hears the lanes
    1 and 2. Before its next event it is notified of hole 7, and knows of holes until 8. Another one has no event. It is
    notified by a walk over all connections, which takes 80 ms for 20,000 of them, in slices; then holes 7 and 8 are
    forgotten. Hole 9, found meanwhile, waits for the next walk, or for each connection's next event.

    It exists because holes used to be reported at once to everyone, or a second later if there had been many: with more
    than 10,000 connections the second hole's gap came after events behind it, and eight lanes held the loop for 653 ms.

    Args:
        last: The number of the last one.
        pending: By channel; empty while nothing is owed.
    """

    last: int = field(default=0, init=False)
    pending: dict[str, list[Hole]] = field(factory=dict[str, list[Hole]], init=False)
    # No connection knows of a later one.
    _known: int = field(default=0, init=False)

    def add(self, gap: Gap, now: float) -> None:
        """Record a hole that was found now."""
        self.last += 1
        holes = self.pending.setdefault(gap.channel, [])
        if holes and holes[-1].number > self._known:
            gap = holes.pop().gap.merge(gap)
        holes.append(Hole(self.last, now, gap))
        if len(holes) > MAX_APART:
            first, second = holes[:2]
            holes[:2] = [Hole(second.number, second.at, first.gap.merge(second.gap))]

    def owed(self, entry: Entry, channels: Iterable[str]) -> tuple[Hole, ...]:
        """Return what a connection does not know of yet, in the order in which it was found; it does from now on.

        Args:
            entry: The connection.
            channels: What brings events for it.
        """
        self._known = self.last
        known, since = entry.last_hole, entry.since
        found: list[Hole] = []
        for channel in channels:
            for hole in reversed(self.pending.get(channel, ())):
                if hole.number <= known:
                    break
                if hole.at >= since:
                    found.append(hole)
        found.sort(key=lambda hole: hole.number)
        # Two targets of one connection may share a channel.
        return tuple(dict.fromkeys(found))

    def settled(self, number: int) -> None:
        """Forget the holes up to this one: everyone has been notified of them."""
        for channel, holes in [*self.pending.items()]:
            left = [hole for hole in holes if hole.number > number]
            if left:
                self.pending[channel] = left
            else:
                del self.pending[channel]
