"""What a payload is as an event, and back: JSON objects travel as they are, everything else in an array."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

__all__ = ["Wrapped", "is_plain", "unwrap", "wrap"]

_BASE64: Final = "base64"


class Wrapped(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """`[channels, text]`, or `[channels, base64, "base64"]`: a payload that is no JSON object, or for several channels.

    Args:
        channels: The channels that it is for: a receiver knows only one target of a union.
        payload: The payload.
        encoding: How it is written; None: as it is.
    """

    channels: list[str]
    payload: str
    encoding: Literal["base64"] | None = None


_decode: Final = msgspec.json.Decoder(Wrapped).decode


def is_plain(data: bytes) -> bool:
    """Return whether a payload may be a JSON object that a bus leaves as it is, byte by byte: it has one line."""
    return data[:1] == b"{" and data[-1:] == b"}" and b"\n" not in data and b"\r" not in data


def wrap(data: bytes, channels: Sequence[str]) -> list[object]:
    """Return the event of any payload for these channels."""
    try:
        return [channels, data.decode()]
    except UnicodeDecodeError:
        return [channels, b64encode(data).decode(), _BASE64]


def unwrap(event: bytes) -> tuple[Sequence[str], bytes] | None:
    """Return the channels and the payload of an event's JSON; None if `wrap` did not make it."""
    try:
        wrapped = _decode(event)
        payload = wrapped.payload.encode()
        return wrapped.channels, payload if wrapped.encoding is None else b64decode(payload, validate=True)
    except (msgspec.MsgspecError, NotBase64, UnicodeEncodeError, RecursionError):
        return None
