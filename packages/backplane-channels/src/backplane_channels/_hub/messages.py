"""A message of Channels as an event: as it is where JSON can hold it, and packed where not.

{"type": "chat.message", "text": "hi"}      most messages
["msgpack", "gqR0eXBl…"]                    one with bytes, NaN, or keys that are no text
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any, Final, TypeAlias, cast

import msgspec
from backplane_core import Event

__all__ = ["Message", "check_message", "is_message", "pack", "read"]

Message: TypeAlias = dict[str, Any]

OBJECT: Final = ord("{")
PACKED: Final = "msgpack"
START: Final = b'["msgpack","'


def _plain(value: object) -> str:
    """Return what a subclass of text is without its class, such as a template's safe text."""
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(f"a message can't hold a {type(value).__name__}")


_pack: Final[Callable[[object], bytes]] = msgspec.msgpack.Encoder(enc_hook=_plain).encode
_unpack: Final[Callable[[bytes], object]] = msgspec.msgpack.Decoder().decode


def check_message(message: object) -> None:
    """Return if it may be sent.

    Raises:
        AssertionError: It is no dict, or holds what Channels keeps for itself.
    """
    if not isinstance(message, dict):
        raise AssertionError("message is not a dict")  # noqa: TRY004 -- as the specification of Channels wants it
    if "__asgi_channel__" in message:
        raise AssertionError("__asgi_channel__ is reserved")


def pack(message: Message) -> list[str]:
    """Return a message that JSON can't hold as an event.

    Raises:
        TypeError: It holds something that has no form in MessagePack either; the text names the type.
        OverflowError: It holds an integer of more than 64 bits.
    """
    return [PACKED, b64encode(_pack(message)).decode()]


def is_message(event: Event) -> bool:
    """Return whether an event looks like a message; anything else would end a consumer."""
    return event.json[0] == OBJECT or event.json.startswith(START)


def read(event: Event) -> Message | None:
    """Return the message, a new one on each call; None if it is none."""
    value: object = event.value
    if isinstance(value, list):
        try:
            packed = cast("Any", value[1])  # pyright: ignore[reportUnknownVariableType] -- whatever a stranger sent
            value = _unpack(b64decode(packed, validate=True))
        except (IndexError, TypeError, ValueError, msgspec.MsgspecError):
            return None
    return cast("Message", value) if isinstance(value, dict) else None
