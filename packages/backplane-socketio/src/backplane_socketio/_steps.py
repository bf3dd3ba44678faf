"""What a manager still has to do with what came from other servers: the part that may wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from attrs import frozen

__all__ = ["Handle", "Notify", "Publish", "Step"]


@frozen
class Handle:
    """Let python-socketio handle a message.

    Args:
        message: The message.
    """

    message: dict[str, Any]


@frozen
class Publish:
    """Send a message to other servers.

    Args:
        message: The message.
    """

    message: dict[str, Any]


@frozen
class Notify:
    """Emit an event to all clients of this server.

    Args:
        event: Its name.
        data: What clients get with it.
        namespaces: Those of the clients.
    """

    event: str
    data: dict[str, object]
    namespaces: Sequence[str]


Step: TypeAlias = Handle | Publish | Notify
"""One of them."""
