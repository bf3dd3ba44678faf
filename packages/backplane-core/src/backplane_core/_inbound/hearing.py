"""Who waits for the broker to confirm that a channel is heard."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

__all__ = ["Hearing"]


class Hearing:
    """Waiters by channel: many on one share one future."""

    def __init__(self) -> None:
        self._waiters: dict[str, asyncio.Future[None]] = {}

    async def wait(self, channel: str) -> None:
        """Return at the channel's next `wake`; whoever waited looks again at what is confirmed."""
        waiter = self._waiters.get(channel)
        if waiter is None:
            waiter = self._waiters[channel] = asyncio.get_running_loop().create_future()
        await asyncio.shield(waiter)

    def wake(self, channels: Iterable[str]) -> None:
        """Something happened to these: confirmed, or not wanted any more."""
        for channel in channels:
            waiter = self._waiters.pop(channel, None)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    def wake_all(self) -> None:
        """The link is lost, or the backplane closes."""
        self.wake(list(self._waiters))
