"""A frame that is being handed out, some connections after the others: `Serving`."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from attrs import frozen

from backplane_core._local.entry import Entry
from backplane_core._protocol.position import EventPlace, Position

__all__ = ["Serving"]


@frozen
class Serving:
    """A frame that some of its connections have got, and others get in later slices.

    Args:
        place: Where it stands.
        entries: Those that have got it.
    """

    place: EventPlace
    entries: AbstractSet[Entry]

    def placed(self, place: EventPlace) -> EventPlace:
        """Return a place as one of a connection that has got this frame."""
        cursors = list(place.position.cursors)
        cursors[self.place.lane] = self.place.position.cursors[self.place.lane]
        return EventPlace(place.codec, Position(cursors, place.position.ahead), place.lane, place.sender, place.seq)
