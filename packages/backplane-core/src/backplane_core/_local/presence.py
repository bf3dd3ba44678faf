"""What makes a connection visible in its targets, and who wants to know: `PresenceFollower` is the simplest form."""

from __future__ import annotations

from attrs import frozen

from backplane_core.target import Target

__all__ = ["Presence", "PresenceFollower"]


@frozen
class Presence:
    """What is shown of a connection.

    Args:
        key: Who it is: connections with one key are shown as one.
        value: What is shown of it, as JSON.
    """

    key: str
    value: bytes


class PresenceFollower:
    """Follows which connections are present in which targets. Here nobody watches."""

    def joined(self, target: Target, conn_id: str, presence: Presence) -> None:
        """Record that a connection which is present was given a target."""

    def left(self, target: Target, conn_id: str, presence: Presence, *, lingers: bool) -> None:
        """Record that it no longer has the target.

        Args:
            target: The target.
            conn_id: The connection's id.
            presence: What was shown of it.
            lingers: Whether its socket ended, so that its user may be back in a moment.
        """
