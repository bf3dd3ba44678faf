"""One event that needs more than its target said: each connection sees the first target that it has, and the key."""

from __future__ import annotations

from collections.abc import Container, Sequence

from attrs import define, field

from backplane_core._local.entry import Entry
from backplane_core._protocol.position import EventPlace
from backplane_core.event import Event, KeyedEvent, make_event
from backplane_core.target import Intersection, Target, targets_in

__all__ = ["UnionEvent"]


@define(eq=False)
class UnionEvent:
    """The events of one publish to a union, or with a key: connections that have the same target share one.

    Args:
        json: The event.
        targets: The targets of the union, in their order.
        place: Where it stands, on a bus that keeps a log; None: it keeps none.
        served: The connections for which it stands elsewhere, since they have got a frame that others wait for.
        place_of_served: Where that is.
        key: The key; None: it has none.
    """

    _json: bytes
    _targets: Sequence[Target | Intersection]
    _place: EventPlace | None = None
    _served: Container[Entry] = ()
    _place_of_served: EventPlace | None = None
    _key: str | None = field(default=None, kw_only=True, alias="key")
    _made: dict[tuple[Target, bool], Event] = field(factory=dict[tuple[Target, bool], Event], init=False)

    def moved(self, place: EventPlace) -> UnionEvent:
        """Return it as it stands at another place, the same for all."""
        return UnionEvent(self._json, self._targets, place, key=self._key)

    def event_for(self, entry: Entry) -> Event:
        """Return the event as this connection gets it."""
        matched = self._targets[0]
        if len(self._targets) > 1:
            # None, if it left the target while the event was on its way to others.
            matched = next((target for target in self._targets if entry.has_all_of(target)), matched)
        target = targets_in(matched)[0]
        is_served = entry in self._served
        made = self._made.get((target, is_served))
        if made is None:
            place = self._place_of_served if is_served else self._place
            if self._key is None:
                made = make_event(self._json, target.wire, place)
            else:
                made = KeyedEvent(self._json, place, target.wire, key=self._key)
            self._made[target, is_served] = made
        return made
