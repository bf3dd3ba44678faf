"""What a connection yields: `Event`."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from backplane_core._protocol.json import decode_event

__all__ = ["Event"]


@frozen(repr=False)
class Event:
    """One event for one connection, encoded once for all of them.

    Args:
        json: The event as JSON: UTF-8, one line, fit for a WebSocket text frame or an SSE `data:` line.
        id: The place of the event in a durable log; None on a bus that keeps no log.
    """

    json: bytes
    id: str | None = field(default=None)

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

    def __repr__(self) -> str:
        return f"Event({len(self.json)} bytes, id={self.id!r})"
