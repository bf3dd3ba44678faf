"""One event published to several targets: each connection sees the first of them that it has."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, field

from backplane_core._local.entry import Entry
from backplane_core.event import Event, make_event
from backplane_core.target import Target

__all__ = ["UnionEvent"]


@define(eq=False)
class UnionEvent:
    """The events of one publish to a union: connections that have the same target of it share one.

    Args:
        json: The event.
        targets: The targets of the union, in their order.
    """

    _json: bytes
    _targets: Sequence[Target]
    _made: dict[Target, Event] = field(factory=dict[Target, Event], init=False)

    def event_for(self, entry: Entry) -> Event:
        """Return the event as this connection gets it."""
        own = entry.targets or ()
        matching = (target for target in self._targets if target in own or entry.has_by_itself(target))
        # None, if it left the target while the event was on its way to others.
        target = next(matching, self._targets[0])
        made = self._made.get(target)
        if made is None:
            made = self._made[target] = make_event(self._json, target.wire)
        return made
