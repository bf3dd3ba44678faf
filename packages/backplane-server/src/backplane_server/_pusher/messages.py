"""The protocol's messages as bytes, and the codes that its sockets close with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from backplane_asgi.sockets import EndedBy

__all__ = [
    "CLOSES",
    "PONG",
    "Member",
    "Said",
    "SignIn",
    "Subscribe",
    "decode_data",
    "decode_said",
    "error",
    "established",
    "event_json",
    "refused",
    "reply",
]

ACTIVITY_TIMEOUT_S: Final = 120
"""Seconds of silence after which a client pings, as Pusher has it."""

CLOSES: Final[Mapping[EndedBy, tuple[int, str]]] = {
    "gap": (4200, "events may have been missed: come back and reload"),
    "slow": (4100, "too far behind: come back and reload"),
    "stopping": (4200, "this server is about to stop: come back, another takes over"),
    "replaced": (4200, "another connection has taken this one's id"),
}
"""4000 to 4099: the client stays away. 4100 to 4199: it comes back a second later. 4200 to 4299: at once."""

PONG: Final = b'{"event":"pusher:pong","data":{}}'

_encode: Final = msgspec.json.encode


class Said(msgspec.Struct):
    """What a client says; other members are ignored."""

    event: str
    channel: str = ""
    data: msgspec.Raw = msgspec.Raw(b"{}")


class Subscribe(msgspec.Struct):
    """What a client wants to hear, and how the app has allowed it."""

    channel: str
    auth: str | None = None
    channel_data: str | None = None


class SignIn(msgspec.Struct):
    """Who a client is, and how the app has confirmed it."""

    auth: str
    user_data: str


class Member(msgspec.Struct):
    """One who is present, as the app describes it; `id` in the data of a user."""

    user_id: str | int = ""
    id: str | int = ""
    user_info: msgspec.Raw = msgspec.Raw(b"null")


decode_said: Final = msgspec.json.Decoder(Said).decode


def decode_data(data: msgspec.Raw, kind: Any) -> Any:  # noqa: ANN401 -- an instance of that kind
    """Return the data of a message, which some clients encode twice.

    Raises:
        msgspec.DecodeError: It is not of that kind.
    """
    raw = bytes(data)
    if raw.startswith(b'"'):
        raw = msgspec.json.decode(raw, type=str).encode()
    return msgspec.json.decode(raw, type=kind)


def established(socket_id: str) -> bytes:
    """Return what a client gets first."""
    return reply("pusher:connection_established", {"socket_id": socket_id, "activity_timeout": ACTIVITY_TIMEOUT_S})


def reply(event: str, data: object, channel: str | None = None) -> bytes:
    """Return a message whose data is JSON in a text, as the protocol has it."""
    message = {"event": event, "data": _encode(data).decode()}
    return _encode(message if channel is None else {**message, "channel": channel})


def error(message: str, code: int | None = None) -> bytes:
    """Return what is wrong with what a client has said; the connection stays."""
    return _encode({"event": "pusher:error", "data": {"code": code, "message": message}})


def refused(channel: str, kind: str, message: str, status: int) -> bytes:
    """Return why a client is not subscribed.

    Args:
        channel: To what.
        kind: `AuthError`, `LimitReached` or `ServerError`.
        message: For people.
        status: A status of HTTP, or a code of the protocol.
    """
    data = {"type": kind, "error": message, "status": status}
    return _encode({"event": "pusher:subscription_error", "channel": channel, "data": data})


def event_json(name: str, data: bytes, user_id: str | None = None) -> bytes:
    """Return an event as it travels through the fleet.

    Args:
        name: Its name.
        data: JSON.
        user_id: The user who sent it in a presence channel; None: a server sent it.
    """
    sender = b"" if user_id is None else b',"user_id":%b' % _encode(user_id)
    return b'{"event":%b,"data":%b%b}' % (_encode(name), data, sender)
