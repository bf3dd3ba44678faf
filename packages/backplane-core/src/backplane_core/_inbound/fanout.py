"""A frame that its connections do not all get in one step of the loop: `Fanout`."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, field

from backplane_core._local.delivery import Delivery
from backplane_core._local.entry import Entry
from backplane_core._local.registry import Registry
from backplane_core._local.union_event import UnionEvent
from backplane_core._log.mirror import Mirror
from backplane_core._log.serving import Serving
from backplane_core._protocol.exclusion import Exclusion
from backplane_core._protocol.position import EventPlace, Position
from backplane_core.target import Intersection, Target

__all__ = ["Fanout"]


@define(eq=False)
class Fanout:
    """Hands one frame to some connections after others; between two steps anything may happen.

    The invariant: the place of the event says of each connection that gets it what that connection has had. An
    example: a frame stands at 214 of its log, and before the last half of its connections get it this pod publishes
    its numbers 2 and 3. The first half got the frame with (214) and then those with (214, own: 3). The last half had
    those first, at (213, own: 3), and gets the frame with (214, own: 3): with (214) alone, a client that then changes
    pods would get 2 and 3 once more.

    Args:
        registry: Knows who still holds its targets.
        delivery: Hands it to sinks.
        mirror: Keeps what passes, where the bus keeps a log; otherwise None.
        event: Its event, as JSON.
        target: The one that it is for, as in the envelope.
        union: The event, if that is not all that it is for.
        place: Where it stands, where the bus keeps a log.
        targets: All that it is for.
        exclude: Whom it is not for.
    """

    _registry: Registry
    _delivery: Delivery
    _mirror: Mirror | None
    event: bytes
    _target: bytes
    _union: UnionEvent | None
    _place: EventPlace | None
    _targets: Sequence[Target | Intersection] = field(kw_only=True, alias="targets")
    _exclude: Exclusion | None = field(kw_only=True, alias="exclude")

    def keep(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Return those of these connections that still are to get it: an id may be another user's by now."""
        return self._registry.keep(entries, self._targets, self._exclude)

    def deliver(self, entries: Sequence[Entry]) -> int:
        """Hand it to these; return how many took it."""
        return self._delivery.deliver(entries, self.event, self._target, self._union, self._place)

    def pause(self, served: Sequence[Entry]) -> None:
        """Record that others may run now, and that these have got it: to them it was before what is published then."""
        if self._mirror is not None and self._place is not None:
            self._mirror.serving = Serving(self._place, frozenset(served))

    def go_on(self) -> None:
        """Record that others ran: those that get it now have had what this pod published meanwhile."""
        place = self._place
        if self._mirror is None or place is None:
            return
        ahead = self._mirror.ahead()
        if ahead == place.position.ahead:
            return
        position = Position(place.position.cursors, ahead)
        self._place = EventPlace(place.codec, position, place.lane, place.sender, place.seq)
        if self._union is not None:
            self._union = self._union.moved(self._place)
