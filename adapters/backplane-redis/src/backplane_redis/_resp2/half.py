"""One of the two connections of a link over RESP2: `Half`."""

from __future__ import annotations

from typing import Protocol

from backplane_redis._connection import LinkConnection
from backplane_redis._limits import Limits
from backplane_redis._link import RedisLink
from backplane_redis._standing import Standing

__all__ = ["Half", "HalfOwner"]


class HalfOwner(Protocol):
    """What a half reports to its link."""

    def half_died(self, half: Half) -> None:
        """Record that a half is of no further use."""
        ...

    def echoed(self) -> None:
        """Record that a message came on a channel that core does not hear."""
        ...


class Half(RedisLink):
    """A link of its own that is used in one direction only.

    Args:
        connection: Open, and not read from yet.
        where: The server's address, for people.
        standing: What the node said of itself.
        limits: What is known of how large a message may be.
        owner: The link that it belongs to.
    """

    def __init__(
        self, connection: LinkConnection, where: str, standing: Standing, limits: Limits, owner: HalfOwner
    ) -> None:
        super().__init__(connection, where, standing, limits)
        self._owner = owner

    @property
    def has_frames(self) -> bool:
        """Whether frames were read that nobody has taken yet."""
        return bool(self._inbox.frames)

    async def hear_apart(self, channel: str) -> None:
        """Subscribe to a channel whose messages are reported as an echo, and handed to nobody.

        Raises:
            TransportError: The link is dead.
            RefusedError: The user may not hear it.
        """
        await self.subscribe([channel])
        self._names.pop(channel.encode(), None)

    def take_unknown(self, channel: bytes) -> None:  # noqa: ARG002 -- all others were left just before
        self._owner.echoed()

    def die(self, reason: str) -> None:
        first = self._dead is None
        super().die(reason)
        if first:
            self._owner.half_died(self)

    def die_with(self, other: Half) -> None:
        """Mark this one dead, because the other one is."""
        self.lacks_rights, self.is_final = other.lacks_rights, other.is_final
        self.die(f"its other connection is dead: {other.reason}")
