"""How events look on a socket: built once per event and pod, and shared by all sockets of that form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import msgspec
from backplane_core import CaughtUp, Event, Gap

__all__ = [
    "ChunkEncoding",
    "Encoding",
    "FrameEncoding",
    "MessageEncoding",
    "PlacedFrameEncoding",
    "PlacedMessageEncoding",
    "StreamEncoding",
    "gap_json",
    "text_frame",
]


def text_frame(data: bytes) -> bytes:
    """Return a WebSocket text frame of a server: whole, unmasked, uncompressed (RFC 6455, section 5.2)."""
    size = len(data)
    if size < 126:  # noqa: PLR2004 -- seven bits, of which the two largest values announce a longer length
        return bytes((0x81, size)) + data
    if size < 65_536:  # noqa: PLR2004 -- two bytes
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), data)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), data)


def gap_json(gap: Gap) -> bytes:
    """Return what a client learns of a gap: nothing of brokers and their addresses, as its `reason` has."""
    return msgspec.json.encode({"backplane": "gap", "cause": gap.cause, "missed": gap.missed, "open": gap.is_open})


def placed_json(event: Event) -> bytes:
    """Return an event and its place in the log, for a client that can resume; the event alone if it has no place."""
    if event.id is None:
        return event.json
    return b'{"backplane":"event","id":"%b","event":%b}' % (event.id.encode(), event.json)  # an id needs no escaping


class Encoding(ABC):
    """Makes the form of one event at a time. All sockets get an event one after the other, so one is remembered.

    Args:
        event: The event at hand.
        item: Its form.
        size: Its bytes, as they count for a socket that is behind.
    """

    __slots__ = ("event", "item", "size")

    def __init__(self) -> None:
        self.event: Event | None = None
        self.item: Any = None
        self.size = 0

    def encode(self, event: Event) -> None:
        """Take on another event."""
        self.event = event
        self.item = self.event_item(event)
        self.size = len(event.json)

    @abstractmethod
    def event_item(self, event: Event) -> Any:  # noqa: ANN401 -- bytes or an ASGI message; its port knows which
        """Return the form of an event."""

    def mark_item(self, mark: CaughtUp) -> Any:  # noqa: ANN401 -- as above
        """Return the form of the mark of where a replay ends."""
        end = {"backplane": "caughtup", "replayed": mark.replayed, "id": mark.id}
        return self.control_item(msgspec.json.encode(end))

    @abstractmethod
    def control_item(self, data: bytes) -> Any:  # noqa: ANN401 -- as above
        """Return the form of a control message: JSON with the key "backplane"."""


class FrameEncoding(Encoding):
    """WebSocket frames, for a server that takes bytes as they are."""

    __slots__ = ()

    def event_item(self, event: Event) -> bytes:
        """Return the event's frame."""
        return text_frame(event.json)

    def control_item(self, data: bytes) -> bytes:
        """Return the message's frame."""
        return text_frame(data)


class MessageEncoding(Encoding):
    """ASGI messages, for any server."""

    __slots__ = ()

    def event_item(self, event: Event) -> dict[str, Any]:
        """Return the event's message."""
        return {"type": "websocket.send", "text": event.text}

    def control_item(self, data: bytes) -> dict[str, Any]:
        """Return the control message."""
        return {"type": "websocket.send", "text": data.decode()}


class PlacedFrameEncoding(FrameEncoding):
    """WebSocket frames with the places of events, for clients that can resume."""

    __slots__ = ()

    def event_item(self, event: Event) -> bytes:
        """Return the frame of the event and its place."""
        return text_frame(placed_json(event))


class PlacedMessageEncoding(MessageEncoding):
    """ASGI messages with the places of events, for clients that can resume."""

    __slots__ = ()

    def event_item(self, event: Event) -> dict[str, Any]:
        """Return the message of the event and its place."""
        return self.control_item(placed_json(event))


class StreamEncoding(Encoding):
    """Server-sent events. JSON on one line needs no escaping in a `data:` line."""

    __slots__ = ()

    def event_item(self, event: Event) -> bytes:
        """Return the event; with the place in the log on a bus that keeps one, from which a client can resume."""
        if event.id is None:
            return b"data: %b\n\n" % event.json
        return b"id: %b\ndata: %b\n\n" % (event.id.encode(), event.json)

    def control_item(self, data: bytes) -> bytes:
        """Return a gap; no other control message goes over a stream."""
        return b"event: gap\ndata: %b\n\n" % data

    def mark_item(self, mark: CaughtUp) -> bytes:
        """Return the mark of where a replay ends, with the place from which a client can resume that got no event."""
        id_ = b"" if mark.id is None else b"id: %b\n" % mark.id.encode()
        data = b'{"backplane":"caughtup","replayed":%d}' % mark.replayed
        return self.body_item(b"event: caughtup\n%bdata: %b\n\n" % (id_, data))

    def body_item(self, body: bytes) -> bytes:
        """Return the form of what already is part of a stream."""
        return body


class ChunkEncoding(StreamEncoding):
    """Server-sent events, for a server that takes an answer's bytes as they are: a chunk each (RFC 9112, 7.1)."""

    __slots__ = ()

    def event_item(self, event: Event) -> bytes:
        """Return the event's chunk."""
        return self.body_item(super().event_item(event))

    def control_item(self, data: bytes) -> bytes:
        """Return the gap's chunk."""
        return self.body_item(super().control_item(data))

    def body_item(self, body: bytes) -> bytes:
        """Return the chunk with these bytes."""
        return b"%x\r\n%b\r\n" % (len(body), body)
