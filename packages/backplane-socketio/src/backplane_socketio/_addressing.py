"""Which servers must hear a message: all of them, or those that hold clients of its rooms.

ToAll     every server hears everything
ByRoom    a server hears the rooms of its own clients, and what concerns no room

`ByRoom` breaks one order that one channel keeps: `enter_room` for a client of another server, then an emit to that
room. The first goes to all, the second to a room of which that server is not yet a part. So for some seconds after a
change of a room elsewhere, the server that asked for it sends what it emits to that room to all, behind the request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from threading import Lock
from time import monotonic
from typing import Any, Final, Protocol, cast

from backplane_core import Target

__all__ = ["ALL", "Addressing", "ByRoom", "ToAll", "room_target", "server_target"]

ALL: Final = Target("socketio", "servers")
"""Every server."""

SETTLE_S: Final = 5.0
"""Seconds after which the broker knows of a room's change on another server: a thousand times as long as it takes."""
MAX_SETTLING: Final = 10_000
"""Rooms whose changes are remembered for so long; with more, everything goes to all meanwhile."""
MAX_TARGETS: Final = 1_000
"""Rooms of one emit that are addressed one by one."""
MAX_ID_BYTES: Final = 1_000
"""A longer name of a room is addressed by its digest."""


def server_target(host_id: str) -> Target:
    """Return the target of one server."""
    return Target.connection(host_id)


def room_target(namespace: str, room: object) -> Target:
    """Return the target of a room, or with None that of the whole namespace.

    Rooms may share a target, as 5 and "5" do: each server looks up who is in which.
    """
    if room is None:
        return Target("socketio_namespace", _id(namespace))
    return Target("socketio_room", _id(f"{namespace}\n{room}"))


class Addressing(Protocol):
    """Finds the targets of messages."""

    by_room: bool
    """Whether a server needs to hear only its own rooms."""

    def targets(self, message: Mapping[str, Any]) -> Sequence[Target]:
        """Return who must hear a message, and take note of what it changes."""
        ...


class ToAll:
    """Every server hears everything, but the answers to others."""

    by_room = False

    def targets(self, message: Mapping[str, Any]) -> Sequence[Target]:
        """Return who must hear a message."""
        return _one_server(message) or (ALL,)


class ByRoom:
    """A server hears the rooms of its own clients."""

    by_room = True

    def __init__(self) -> None:
        # Until when; the oldest first.
        self._settling: dict[Target, float] = {}
        self._all_until = 0.0
        self._lock = Lock()  # a server may emit from many threads

    def targets(self, message: Mapping[str, Any]) -> Sequence[Target]:
        """Return who must hear a message, and take note of what it changes."""
        method = message["method"]
        if method == "emit":
            return self._rooms(message)
        if method in {"enter_room", "leave_room", "close_room"}:
            self._settle(room_target(message["namespace"], message["room"]))
        return _one_server(message) or (ALL,)

    def _rooms(self, message: Mapping[str, Any]) -> Sequence[Target]:
        named = message["room"]
        rooms: Sequence[object] = cast("Sequence[object]", named) if isinstance(named, (list, tuple)) else (named,)
        if not 0 < len(rooms) <= MAX_TARGETS:
            return (ALL,)
        targets = [room_target(message["namespace"], room) for room in rooms]
        return (ALL,) if self._is_settling(targets) else targets

    def _settle(self, target: Target) -> None:
        with self._lock:
            until = monotonic() + SETTLE_S
            self._settling.pop(target, None)  # it goes behind the others
            if len(self._settling) >= MAX_SETTLING:
                self._settling.clear()
                self._all_until = until
            self._settling[target] = until

    def _is_settling(self, targets: Sequence[Target]) -> bool:
        if not self._settling:
            return False
        with self._lock:
            now = monotonic()
            while self._settling:
                oldest = next(iter(self._settling))
                if self._settling[oldest] > now:
                    break
                del self._settling[oldest]
            return now < self._all_until or any(target in self._settling for target in targets)


def _one_server(message: Mapping[str, Any]) -> Sequence[Target]:
    """Return the server that waits for an answer, if this is one."""
    host_id = message.get("host_id") if message["method"] in {"callback", "participants_answer"} else None
    return (server_target(host_id),) if isinstance(host_id, str) and host_id else ()


def _id(text: str) -> str:
    data = text.encode("utf-8", "surrogatepass")
    if len(data) > MAX_ID_BYTES or data.decode(errors="ignore") != text:  # too long, or no text
        return sha256(data).hexdigest()
    return text
