"""How a server hears the others: over what, the bounds of its queue, and how long its first clients wait for that."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from attrs import frozen
from backplane_core import BaseBackplane, Readiness, Stats, Target

__all__ = ["CONFIRM_S", "MAX_PENDING", "MAX_PENDING_BYTES", "RETRY_S", "START_S", "AsyncHearing", "Hearing"]

MAX_PENDING: Final = 10_000
"""Messages of others that may wait to be handled: some seconds of a busy fleet."""
MAX_PENDING_BYTES: Final = 64 * 1024 * 1024
"""The same in bytes."""
START_S: Final = 1.0
"""Seconds for which the first clients wait until their server hears the others. Without its broker it goes on deaf."""
CONFIRM_S: Final = 5.0
"""Seconds for which entering a room waits for the broker; the room has a gap if that was not enough."""
RETRY_S: Final = 1.0
"""Seconds until a server that was not let in tries again."""


class Hearing(Protocol):
    """What a server hears the others over; in threads it is a `SyncConnection`."""

    def ready(self) -> Readiness:
        """Return whether it is live, or since when not and why."""
        ...

    def stats(self) -> Stats:
        """Return its pod's counters, and its name."""
        ...

    def associate_nowait(self, target: Target, /) -> object:
        """Hear a target, without waiting for the broker."""
        ...

    def dissociate_nowait(self, target: Target, /) -> object:
        """Hear a target no longer."""
        ...


@frozen(eq=False)
class AsyncHearing:
    """What a server in an event loop hears the others over.

    Args:
        backplane: Its pod.
        host_id: Of the server, and of its connection to the pod.
        loop: The loop of both.
    """

    backplane: BaseBackplane
    host_id: str
    loop: asyncio.AbstractEventLoop

    def ready(self) -> Readiness:
        """Return whether it is live, or since when not and why."""
        return self.backplane.ready()

    def stats(self) -> Stats:
        """Return its pod's counters, and its name."""
        return self.backplane.stats()

    async def associate(self, target: Target) -> None:
        """Hear a target, and return once the broker has confirmed that."""
        await self.backplane.associate(self.host_id, target)

    def associate_nowait(self, target: Target, /) -> None:
        """Hear a target, without waiting for the broker."""
        self.backplane.associate_nowait(self.host_id, target)

    def dissociate_nowait(self, target: Target, /) -> None:
        """Hear a target no longer."""
        self.backplane.dissociate_nowait(self.host_id, target)
