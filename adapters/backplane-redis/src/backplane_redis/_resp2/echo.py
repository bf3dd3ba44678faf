"""How far the connection that brings messages has proven what it brought, sans-IO: `Echo`."""

from __future__ import annotations

from typing import Final

from attrs import define, field

from backplane_redis._commands import pack_command

__all__ = ["ECHO_EVERY_S", "Echo"]

ECHO_EVERY_S: Final = 0.5
"""An echo goes out with the next send after so long: with core's beats at the latest, so a gap begins no earlier."""


@define(eq=False)
class Echo:
    """A message that a link publishes on one of its connections for itself, and hears on the other one.

    A confirmation on the connection that publishes proves nothing about the other. PING there would be answered by many
    a proxy itself, past the messages that are still on their way. A message of our own goes all the way through the
    server, and it delivers to one connection in the order in which it was published to.

    The invariant: what passed the server before `heard_at` was written to the same connection in front of the echo, and
    has been taken.

    Example: an echo is published at 10.0, and comes back at 10.3 while the consumer is at work on what came in front of
    it. It does not count yet. At 10.4 the consumer comes back for more: all until 10.0 was taken.

    Args:
        channel: Nobody else's.
        heard_at: When the last echo was written that came back and in front of which all was taken.
    """

    channel: str
    heard_at: float
    _asked_at: float | None = field(default=None, init=False)
    _next_at: float = field(default=0.0, init=False)
    _arrived: float | None = field(default=None, init=False)

    @property
    def data(self) -> bytes:
        """The command that publishes it."""
        return pack_command("PUBLISH", self.channel, "1")

    def is_due(self, now: float) -> bool:
        """Return whether to publish one. There is one on its way at most, however long it takes."""
        return self._asked_at is None and now >= self._next_at

    def asked(self, now: float) -> None:
        """Record that one was published."""
        self._asked_at = now
        self._next_at = now + ECHO_EVERY_S

    def arrived(self) -> None:
        """Record that it came back. What came in front of it may not have been taken yet."""
        self._arrived, self._asked_at = self._asked_at, None

    def taken(self) -> None:
        """Record that all that has come was taken."""
        if self._arrived is not None:
            self.heard_at = max(self.heard_at, self._arrived)
            self._arrived = None
