"""What the life of links means to a backplane: `LinkEvents`."""

from __future__ import annotations

from typing import Protocol

from backplane_core._outbound.in_doubt import InDoubt

__all__ = ["LinkEvents"]


class LinkEvents(Protocol):
    """Takes what happens to the link. All are called in the loop, and none may raise."""

    async def live(self, reason: str) -> None:
        """Record that a link is live: everything that is wanted is heard. Nothing is sent before this returns."""
        ...

    def lost(self, reason: str, in_doubt: InDoubt | None) -> None:
        """Record that the link is dead.

        Args:
            reason: Why, for people.
            in_doubt: What it confirmed that may be lost all the same. What was in flight is the sender's, still.
        """
        ...

    def moved(self, reason: str) -> None:
        """Record that the link was left for another one and nothing was missed; what is still to be read may be copies.

        Args:
            reason: Why, for people.
        """
        ...

    def beat(self) -> None:
        """Send a beat."""
        ...
