"""Which rooms a server holds clients of, by the targets that it must hear for them: sans-IO."""

from __future__ import annotations

from backplane_core import Target

from backplane_socketio._addressing import room_target

__all__ = ["Rooms"]


class Rooms:
    """The rooms of one server. Two of them may share a target, which is heard until the last of them is empty."""

    def __init__(self) -> None:
        self._held: dict[Target, set[tuple[str, object]]] = {}

    @property
    def targets(self) -> list[Target]:
        """What the server must hear."""
        return list(self._held)

    def holds(self, target: Target) -> bool:
        """Return whether the server must hear a target."""
        return target in self._held

    def enter(self, namespace: str, room: object) -> None:
        """Record that a room has clients here."""
        self._held.setdefault(room_target(namespace, room), set()).add((namespace, room))

    def leave(self, namespace: str, room: object) -> Target | None:
        """Record that a room has no clients here; return the target that no longer needs to be heard, if any."""
        target = room_target(namespace, room)
        rooms = self._held.get(target)
        if rooms is None:
            return None
        rooms.discard((namespace, room))
        if rooms:
            return None
        del self._held[target]
        return target
