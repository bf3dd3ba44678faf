"""What a connection yields: `Event`."""

from __future__ import annotations

from typing import Any, Final

from attrs import field, frozen

from backplane_core._protocol.frame import decode_target
from backplane_core._protocol.json import decode_event
from backplane_core.target import Target

__all__ = ["Event"]


@frozen(repr=False)
class Event:
    """One event for one connection, encoded once for all of them.

    Args:
        json: The event as JSON: UTF-8, one line, fit for a WebSocket text frame or an SSE `data:` line.
        id: The place of the event in a durable log; None on a bus that keeps no log.
        target_wire: The target as the envelope has it; empty if the event was made by hand.
    """

    json: bytes
    id: str | None = field(default=None)
    target_wire: bytes = field(default=b"")

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

    def __repr__(self) -> str:
        return f"Event({len(self.json)} bytes, id={self.id!r})"


_new: Final = object.__new__
# A frozen object rejects `setattr`; its slots take a value in half the time of `object.__setattr__`.
_set_json, _set_id, _set_target_wire = (Event.__dict__[name].__set__ for name in ("json", "id", "target_wire"))


def make_event(json: bytes, target_wire: bytes) -> Event:
    """Return `Event(json, None, target_wire)` in half the time: a pod makes one for each event that it delivers."""
    event = _new(Event)
    _set_json(event, json)
    _set_id(event, None)
    _set_target_wire(event, target_wire)
    return event
