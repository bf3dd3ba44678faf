"""How an event of the fleet looks to Pusher's clients: `PusherForm`."""

from __future__ import annotations

from typing import Final

import msgspec
from backplane_asgi.sockets import SocketForm
from backplane_core import Event

from backplane_server._pusher.names import channel_of

__all__ = ["PusherForm"]

UNNAMED: Final = "message"
"""What an event is called that names none: one that a pod published without a thought of Pusher."""


class Published(msgspec.Struct):
    """An event with a name, as the door and pods publish it."""

    event: str
    data: msgspec.Raw = msgspec.Raw(b'""')
    user_id: str | None = None


_decode: Final = msgspec.json.Decoder(Published).decode
_encode: Final = msgspec.json.encode


class PusherForm(SocketForm):
    """`{"event":"my-event","channel":"my-channel","data":"{…}"}`: data is JSON in a text, or a text as it is."""

    def event_json(self, event: Event) -> bytes:
        """Return the message that carries an event; one without a name of its own is called `message`."""
        try:
            published = _decode(event.json)
        except (msgspec.DecodeError, ValueError, RecursionError):
            published = Published(UNNAMED, msgspec.Raw(event.json))
        data = bytes(published.data)
        if not data.startswith(b'"'):
            data = _encode(data.decode())
        name = channel_of(event.target)
        channel = b"" if name is None else b',"channel":%b' % _encode(name)
        sender = b"" if published.user_id is None else b',"user_id":%b' % _encode(published.user_id)
        return b'{"event":%b%b,"data":%b%b}' % (_encode(published.event), channel, data, sender)
