"""What a connection yields: `Event`, and `CaughtUp` where a replay ends."""

from __future__ import annotations

from typing import Any, Final

from attrs import field, frozen

from backplane_core._protocol.frame import decode_target
from backplane_core._protocol.json import decode_event
from backplane_core._protocol.position import EventPlace
from backplane_core.target import Target

__all__ = ["CaughtUp", "Event"]


@frozen(repr=False)
class Event:
    """One event for one connection, encoded once for all of them.

    Args:
        json: The event as JSON: UTF-8, one line, fit for a WebSocket text frame or an SSE `data:` line.
        id: See `id`.
        target_wire: The target as the envelope has it; empty if the event was made by hand.
    """

    json: bytes
    _place: str | EventPlace | None = field(default=None, alias="id", eq=lambda place: place and str(place))
    target_wire: bytes = field(default=b"")

    @property
    def id(self) -> str | None:
        """How far a connection has got that was handed this event, on a bus that keeps a log; otherwise None.

        Opaque printable ASCII: hand it to `connection(resume_from=...)`, of any pod, to go on behind this event.
        """
        return None if self._place is None else str(self._place)

    @property
    def value(self) -> Any:  # noqa: ANN401 -- JSON is what the publisher sent; the reader knows its shape
        """The event, decoded on each access, so that no two readers share one value.

        Raises:
            EnvelopeError: A foreign pod sent a number that does not fit a double.
        """
        return decode_event(self.json)

    @property
    def text(self) -> str:
        """The event as JSON text on one line."""
        return self.json.decode()

    @property
    def target(self) -> Target | None:
        """The target that it was published to, decoded on each access; None if the event was made by hand.

        Of a union it is the first target that the connection has.
        """
        return decode_target(self.target_wire) if self.target_wire else None

    @property
    def key(self) -> str | None:
        """The key that it was published with; None: it had none."""
        return None

    def __repr__(self) -> str:
        return f"Event({len(self.json)} bytes, id={self.id!r})"


@frozen(repr=False)
class KeyedEvent(Event):
    """An event with a key. A class of its own, so that making all others costs nothing more."""

    key: str = field(kw_only=True)  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]


_new: Final = object.__new__
# A frozen object rejects `setattr`; its slots take a value in half the time of `object.__setattr__`.
_set_json, _set_place, _set_target_wire = (Event.__dict__[name].__set__ for name in ("json", "_place", "target_wire"))


def make_event(json: bytes, target_wire: bytes, place: EventPlace | None = None) -> Event:
    """Return `Event(json, place, target_wire)` in half the time: a pod makes one for each event that it delivers."""
    event = _new(Event)
    _set_json(event, json)
    _set_place(event, place)
    _set_target_wire(event, target_wire)
    return event


def keyed_event(event: Event, key: str) -> Event:
    """Return an event with a key."""
    return KeyedEvent(event.json, place_of(event), event.target_wire, key=key)


def moved_event(event: Event, place: EventPlace | None) -> Event:
    """Return an event as it stands at another place."""
    if event.key is None:
        return make_event(event.json, event.target_wire, place)
    return KeyedEvent(event.json, place, event.target_wire, key=event.key)


def place_of(event: Event) -> EventPlace | None:
    """Return where an event stands that this pod made; None: nowhere."""
    place = _get_place(event)
    return place if isinstance(place, EventPlace) else None


_get_place: Final = Event.__dict__["_place"].__get__


@frozen(kw_only=True)
class CaughtUp:
    """What a connection missed that resumes has been handed to it; what follows is live.

    Args:
        id: Where it is now, as if of an event; None on a bus that keeps no log.
        replayed: How many events were handed to it before this.
    """

    id: str | None
    replayed: int
