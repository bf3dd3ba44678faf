"""The calls of one link that wait for time to pass, or for the link's death: `Pauses`."""

from __future__ import annotations

import asyncio

__all__ = ["Pauses", "wake"]


class Pauses:
    """Waits that all end at once when their link dies."""

    def __init__(self) -> None:
        self._waiters: dict[asyncio.Future[None], None] = {}  # a set that keeps its order, or no run would repeat

    async def wait(self, waiter: asyncio.Future[None]) -> None:
        """Return once the waiter is woken, or all are."""
        self._waiters[waiter] = None
        try:
            await waiter
        finally:
            del self._waiters[waiter]

    async def wait_for(self, seconds: float | None) -> None:
        """Return after so many seconds (None: never), or once all are woken."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, wake, waiter)
        try:
            await self.wait(waiter)
        finally:
            if timer is not None:
                timer.cancel()

    def wake_all(self) -> None:
        """End every wait: the link is dead."""
        for waiter in list(self._waiters):
            wake(waiter)


def wake(waiter: asyncio.Future[None]) -> None:
    """End one wait; a no-op if it has ended."""
    if not waiter.done():
        waiter.set_result(None)
