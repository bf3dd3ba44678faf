"""Notices that a master is none any longer, for a link to it: `MasterWatch`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from random import uniform
from typing import Final, Protocol

from attrs import frozen
from backplane_core import TransportError

from backplane_redis._sentinel.client import Sentinel
from backplane_redis._sentinel.quorum import NEWS_S, Answer, SentinelQuorum
from backplane_redis._url import Address, format_address

__all__ = ["Master", "MasterUser", "MasterWatch"]

CHECK_S: Final = 1.0
"""How often each sentinel is asked: a fleet of 1,000 pods costs it 2,000 small commands a second."""

LONG_S: Final = NEWS_S + 4 * CHECK_S
"""While sentinels answer, a master is unconfirmed for less than this; after it, the link may have missed a failover."""


@frozen(kw_only=True)
class Master:
    """The master of a service, and those who know of it.

    Args:
        service: The name of the service.
        address: Where the master is.
        sentinels: Each of them; `MasterWatch.aclose` closes them.
        quorum: What they answered so far.
    """

    service: str
    address: Address
    sentinels: Sequence[Sentinel]
    quorum: SentinelQuorum


class MasterUser(Protocol):
    """A link to a master, which leaves it when it was replaced."""

    @property
    def is_dead(self) -> bool:
        """Whether the link is dead: then nobody is asked any longer."""
        ...

    async def ask_standing(self) -> None:
        """Ask the node for its role; the link is dead if that is not a master's.

        Raises:
            TransportError: The link is dead.
        """
        ...

    async def leave(self, reason: str) -> None:
        """Mark the link dead, and close its sockets, which wakes all that wait there."""
        ...


class MasterWatch:
    """Asks each sentinel, and the node, every `CHECK_S`; the link leaves a node that was replaced.

    A master that was replaced while it was cut off still answers: it accepts each write, and each PUBLISH, which it
    delivers to the clients left there. Nothing on its own connection shows that. A sentinel that is away or slow costs
    the link nothing.

    Args:
        master: The link's node, and who knows of it.
        user: The link.
    """

    def __init__(self, master: Master, user: MasterUser) -> None:
        self._master = master
        self._user = user
        self._task = asyncio.create_task(self._watch(), name="backplane-sentinel")

    @property
    def sure_until(self) -> float:
        """Until when the link's node was certain to be the master; `time.monotonic()`, seconds."""
        return self._master.quorum.sure_until

    @property
    def is_replaced(self) -> bool:
        """Whether the node was replaced while it lived on; one that nobody could confirm for long counts as replaced.

        One that just died does not.
        """
        return self._master.quorum.replaced_by is not None or time.monotonic() - self.sure_until > LONG_S

    async def aclose(self) -> None:
        """End, and close the connections to the sentinels at once."""
        async with AsyncExitStack() as stack:  # closes each, also if another one fails or this is cancelled
            self._task.cancel()
            stack.push_async_callback(asyncio.wait, [self._task])
            for sentinel in self._master.sentinels:
                stack.push_async_callback(sentinel.close)

    async def _watch(self) -> None:
        """Ask them all; a link that can't is dead."""
        try:
            async with asyncio.TaskGroup() as group:
                for number, sentinel in enumerate(self._master.sentinels):
                    group.create_task(self._follow(number, sentinel))
                group.create_task(self._check_role())
        except* TransportError:  # the link is dead, for a reason that it has kept
            pass
        except* Exception as failed:  # noqa: BLE001 -- a link that is not watched must not pass for a live one
            name = type(failed.exceptions[0]).__name__
            await self._user.leave(f"its task that watches the sentinels failed: {name}")

    async def _follow(self, number: int, sentinel: Sentinel) -> None:
        master = self._master
        while not self._user.is_dead:
            await self._pause()
            answer: Answer | None = None
            with suppress(TransportError):  # away or slow: the others decide
                answer = await sentinel.ask(master.service)
            master.quorum.record(number, answer)
            if moved := master.quorum.replaced_by:
                await self._user.leave(
                    f"the sentinels say that the master of {master.service!r} is {format_address(moved)} now"
                )

    async def _check_role(self) -> None:
        while not self._user.is_dead:
            await self._pause()
            # However little is sent: the sentinels may take long to notice.
            await self._user.ask_standing()

    @staticmethod
    async def _pause() -> None:
        # At random: after a failover a whole fleet would otherwise ask at the same moment.
        await asyncio.sleep(uniform(0.75, 1.25) * CHECK_S)  # noqa: S311 -- no secret
