"""`SentinelLink`: a link to a master that leaves it when the sentinels name another."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, suppress

from backplane_core import Proven
from redis.exceptions import RedisError

from backplane_redis._connection import LinkConnection
from backplane_redis._limits import Limits
from backplane_redis._link import RedisLink
from backplane_redis._sentinel.watch import Master, MasterWatch
from backplane_redis._standing import HELLO, Standing
from backplane_redis._url import format_address

__all__ = ["SentinelLink"]


class SentinelLink(RedisLink):
    """A link to a master; it dies when the sentinels name another one, or the node reports that it is a replica.

    Args:
        connection: To the master; open, and not read from yet.
        master: The link's node, and who knows of it.
        limits: What is known of how large a message may be.
    """

    def __init__(self, connection: LinkConnection, master: Master, limits: Limits) -> None:
        super().__init__(connection, format_address(master.address), Standing(HELLO, time.monotonic()), limits)
        self._watch = MasterWatch(master, self)

    async def aclose(self) -> None:
        """Close the socket and those to the sentinels at once; pending calls raise."""
        async with AsyncExitStack() as stack:  # closes each, also if another one fails or this is cancelled
            stack.push_async_callback(super().aclose)
            stack.push_async_callback(self._watch.aclose)

    def proven(self) -> Proven:
        """Return until when this node was certainly the master, and whether it was replaced while it lived on."""
        is_deposed = self._watch.is_replaced or self._standing.problem is not None
        return Proven(received_until=None, replicated_until=self._watch.sure_until, deposed=is_deposed)

    @property
    def is_dead(self) -> bool:
        """Whether it is dead."""
        return self._dead is not None

    async def leave(self, reason: str) -> None:
        """Mark the link dead, and close its socket, which wakes the reader."""
        self.die(reason)
        with suppress(RedisError, OSError):
            await self._connection.disconnect()
