"""What this pod's connections need from the bus: `Subscriber` is the simplest form, for a pod without one."""

from __future__ import annotations

from collections.abc import Sequence

from backplane_core.target import Target

__all__ = ["Subscriber"]


class Subscriber:
    """Follows which targets this pod holds connections for. In memory there is no bus, and nothing to subscribe to."""

    def touch(self, target: Target) -> None:
        """Record that the pod gained its first or lost its last connection of a target."""

    def owe(self, targets: Sequence[Target]) -> bool:  # noqa: ARG002 -- in memory nothing is missed
        """Owe a gap to the connections of each of these that is not confirmed; return whether there is one."""
        return False

    async def confirm(self, targets: Sequence[Target]) -> bool:  # noqa: ARG002 -- in memory there is nothing to confirm
        """Wait until the broker confirmed the subscriptions for all of these; False at once while the link is down."""
        return True
