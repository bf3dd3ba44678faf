"""`SentinelLink`: a link to a master that leaves it when the sentinels name another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from random import uniform
from typing import Final

from backplane_core import Proven, TransportError
from redis.exceptions import RedisError

from backplane_redis._connection import LinkConnection
from backplane_redis._limits import Limits
from backplane_redis._link import RedisLink
from backplane_redis._sentinel.client import Sentinel
from backplane_redis._sentinel.quorum import NEWS_S, Answer, SentinelQuorum
from backplane_redis._standing import HELLO, Standing
from backplane_redis._url import Address, format_address

__all__ = ["SentinelLink"]

CHECK_S: Final = 1.0
"""How often each sentinel is asked: a fleet of 1,000 pods costs it 2,000 small commands a second."""

LONG_S: Final = NEWS_S + 4 * CHECK_S
"""While sentinels answer, a master is unconfirmed for less than this; after it, the link may have missed a failover."""


class SentinelLink(RedisLink):
    """A link to a master; it dies when the sentinels name another one, or the node reports that it is a replica.

    A master that was replaced while it was cut off still answers: it accepts each PUBLISH, and delivers it to the
    clients left there. Nothing on its own connection shows that. So a task of this link asks each sentinel, and the
    node, every `CHECK_S`. A sentinel that is away or slow costs the link nothing.

    Args:
        connection: To the master; open, and not read from yet.
        master: Where that is.
        sentinels: Each of them; the link closes them.
        quorum: What they answered so far.
        service: The name of the service.
        limits: What is known of how large a message may be.
    """

    def __init__(  # noqa: PLR0917 -- one caller
        self,
        connection: LinkConnection,
        master: Address,
        sentinels: Sequence[Sentinel],
        quorum: SentinelQuorum,
        service: str,
        limits: Limits,
    ) -> None:
        super().__init__(connection, format_address(master), Standing(HELLO, time.monotonic()), limits)
        self._sentinels = sentinels
        self._quorum = quorum
        self._service = service
        self._watching = asyncio.create_task(self._watch(), name="backplane-sentinel")

    async def aclose(self) -> None:
        """Close the socket and those to the sentinels at once; pending calls raise."""
        async with AsyncExitStack() as stack:  # closes each, also if another one fails or this is cancelled
            self._watching.cancel()
            stack.push_async_callback(asyncio.wait, [self._watching])
            for sentinel in self._sentinels:
                stack.push_async_callback(sentinel.close)
            stack.push_async_callback(super().aclose)

    def proven(self) -> Proven:
        """Return until when this node was certainly the master, and whether it was replaced while it lived on.

        A node that nobody could confirm for long counts as replaced; one that just died does not.
        """
        sure_until = self._quorum.sure_until
        is_deposed = self._quorum.replaced_by is not None or self._standing.problem is not None
        is_deposed = is_deposed or time.monotonic() - sure_until > LONG_S
        return Proven(received_until=None, replicated_until=sure_until, deposed=is_deposed)

    async def _watch(self) -> None:
        """Ask each sentinel, and the node, every `CHECK_S`; a link that can't is dead."""
        try:
            async with asyncio.TaskGroup() as group:
                for number, sentinel in enumerate(self._sentinels):
                    group.create_task(self._follow(number, sentinel))
                group.create_task(self._check_role())
        except* TransportError:  # the link is dead, for a reason that it has kept
            pass
        except* Exception as failed:  # noqa: BLE001 -- a link that is not watched must not pass for a live one
            await self._leave(f"its task that watches the sentinels failed: {type(failed.exceptions[0]).__name__}")

    async def _follow(self, number: int, sentinel: Sentinel) -> None:
        while self._dead is None:
            await self._pause()
            answer: Answer | None = None
            with suppress(TransportError):  # away or slow: the others decide
                answer = await sentinel.ask(self._service)
            self._quorum.record(number, answer)
            if moved := self._quorum.replaced_by:
                await self._leave(
                    f"the sentinels say that the master of {self._service!r} is {format_address(moved)} now"
                )

    async def _check_role(self) -> None:
        while self._dead is None:
            await self._pause()
            # However little is sent: the sentinels may take long to notice.
            await self.ask_standing()

    @staticmethod
    async def _pause() -> None:
        # At random: after a failover a whole fleet would otherwise ask at the same moment.
        await asyncio.sleep(uniform(0.75, 1.25) * CHECK_S)  # noqa: S311 -- no secret

    async def _leave(self, reason: str) -> None:
        """Mark the link dead, and close its socket, which wakes the reader."""
        self.die(reason)
        with suppress(RedisError, OSError):
            await self._connection.disconnect()
