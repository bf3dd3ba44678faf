"""Clients that don't read: Engine.IO's queue for each has no bound of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["discard", "far_behind"]


def far_behind(manager: Any, message: Mapping[str, Any], most: int) -> Iterator[Any]:  # noqa: ANN401 -- untyped
    """Yield the Engine.IO sockets of a message's clients for which more than so many packets wait.

    Args:
        manager: Of the server.
        message: What was just emitted.
        most: How many packets may wait.
    """
    namespace, sockets = message.get("namespace") or "/", manager.server.eio.sockets
    for _, eio_sid in list(manager.get_participants(namespace, message.get("room"))):
        socket = sockets.get(eio_sid)
        if socket is not None and not socket.closed and socket.queue.qsize() > most:
            manager.disconnected_slow += 1
            yield socket


def discard(socket: Any) -> None:  # noqa: ANN401 -- untyped
    """Give up what waits for a closed socket: its writer may be held up for as long as the network likes."""
    queue = socket.queue
    while not queue.empty():
        queue.get_nowait()
        queue.task_done()
    queue.put_nowait(None)  # ends the writer
