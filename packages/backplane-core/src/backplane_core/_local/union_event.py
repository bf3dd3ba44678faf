"""One event published to several targets: each connection sees the first of them that it has."""

from __future__ import annotations

from collections.abc import Container, Sequence

from attrs import define, field

from backplane_core._local.entry import Entry
from backplane_core._protocol.position import EventPlace
from backplane_core.event import Event, make_event
from backplane_core.target import Target

__all__ = ["UnionEvent"]


@define(eq=False)
class UnionEvent:
    """The events of one publish to a union: connections that have the same target of it share one.

    Args:
        json: The event.
        targets: The targets of the union, in their order.
        place: Where it stands, on a bus that keeps a log; None: it keeps none.
        served: The connections for which it stands elsewhere, since they have got a frame that others wait for.
        place_of_served: Where that is.
    """

    _json: bytes
    _targets: Sequence[Target]
    _place: EventPlace | None = None
    _served: Container[Entry] = ()
    _place_of_served: EventPlace | None = None
    _made: dict[tuple[Target, bool], Event] = field(factory=dict[tuple[Target, bool], Event], init=False)

    def event_for(self, entry: Entry) -> Event:
        """Return the event as this connection gets it."""
        own = entry.targets or ()
        matching = (target for target in self._targets if target in own or entry.has_by_itself(target))
        # None, if it left the target while the event was on its way to others.
        target = next(matching, self._targets[0])
        is_served = entry in self._served
        made = self._made.get((target, is_served))
        if made is None:
            place = self._place_of_served if is_served else self._place
            made = self._made[target, is_served] = make_event(self._json, target.wire, place)
        return made
