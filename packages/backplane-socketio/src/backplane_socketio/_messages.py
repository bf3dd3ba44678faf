"""Messages of python-socketio's servers as events: as they are, or else as text that the servers' JSON module made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast
from uuid import uuid4

from backplane_core import BackplaneError, Event

from backplane_socketio.json_module import JsonModule

__all__ = ["decode", "is_ours", "message_of", "new_host_id"]

MARK: Final = 12
"""Where a server's id says whose it is: python-socketio's are UUIDs of version 4, ours of version 8."""
LENGTH: Final = 32


def new_host_id() -> str:
    """Return a new id for a server, of the form that python-socketio's have, and yet told apart from them."""
    made = uuid4().hex
    return f"{made[:MARK]}8{made[MARK + 1 :]}"


def is_ours(host_id: object) -> bool:
    """Return whether a server of that id has one of this package's managers, and not one of python-socketio's."""
    return isinstance(host_id, str) and len(host_id) == LENGTH and host_id[MARK] == "8"


def decode(event: Event, json: JsonModule) -> dict[str, Any] | None:
    """Return the message in an event; None if it holds none.

    Args:
        event: The event, of anybody who may publish on the channel.
        json: The server's JSON module, for what was sent as text.
    """
    try:
        value = event.value
    except BackplaneError:  # a number that no float holds, from another language
        return None
    return message_of(value, json)


def message_of(value: object, json: JsonModule) -> dict[str, Any] | None:
    """Return the message in what another server sent; None if it holds none.

    Args:
        value: An object, or JSON text of one.
        json: The server's JSON module, for text.
    """
    if isinstance(value, (str, bytes)):
        try:
            value = json.loads(value)
        except Exception:  # noqa: BLE001 -- a module of the host's choice may raise anything
            return None
    if not isinstance(value, Mapping):
        return None
    message = cast("dict[str, Any]", value)
    return message if isinstance(message.get("method"), str) else None
