"""A frame that is being delivered in slices: `Serving`."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from attrs import frozen

from backplane_core._local.entry import Entry
from backplane_core._protocol.position import EventPlace, Position

__all__ = ["Serving"]


@frozen
class Serving:
    """A frame that some of its connections have received, and that others receive in later slices.

    Args:
        place: Its position.
        entries: The connections that have received it.
    """

    place: EventPlace
    entries: AbstractSet[Entry]

    def placed(self, place: EventPlace) -> EventPlace:
        """Return a position, moved past this frame, for a connection that has received it."""
        cursors = list(place.position.cursors)
        cursors[self.place.lane] = self.place.position.cursors[self.place.lane]
        return EventPlace(place.codec, Position(cursors, place.position.ahead), place.lane, place.sender, place.seq)
