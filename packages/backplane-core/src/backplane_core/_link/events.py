"""How a backplane is notified of what happens to its link: `LinkEvents`."""

from __future__ import annotations

from typing import Protocol

from backplane_core._outbound.in_doubt import InDoubt

__all__ = ["LinkEvents"]


class LinkEvents(Protocol):
    """Notified of what happens to the link. All methods are called in the loop, and none may raise."""

    async def live(self, reason: str) -> None:
        """Record that a link is live and subscribed to everything wanted. Nothing is sent before this returns."""
        ...

    def lost(self, reason: str, in_doubt: InDoubt | None) -> None:
        """Record that the link is dead.

        Args:
            reason: Why, for people.
            in_doubt: What it confirmed but may be lost all the same. What was in flight still belongs to the sender.
        """
        ...

    def failed(self, reason: str, *, retryable: bool) -> None:
        """Record that no link could be opened, and that another attempt will follow.

        Args:
            reason: Why, for people.
            retryable: Whether that one can succeed while nobody changes anything.
        """
        ...

    def moved(self, reason: str) -> None:
        """Record that another link took over and nothing was missed; frames still to be read may be copies.

        Args:
            reason: Why, for people.
        """
        ...

    def abandoned(self) -> None:
        """Record that the event loop ended, and nobody had closed the backplane: it is closed now."""
        ...

    def tick(self, now: float) -> None:
        """Let time pass for what ages while the link hears.

        Args:
            now: The monotonic clock, in seconds.
        """
        ...

    def beat(self) -> None:
        """Send a beat."""
        ...
