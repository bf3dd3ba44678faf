"""What one connection gets, gaps included: the iterator behind `Connection.items`."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import Self

from backplane_core._local.event_queue import EventQueue
from backplane_core.event import Event
from backplane_core.observe import Gap

__all__ = ["ConnectionItems"]


class ConnectionItems(AsyncIterator[Event | Gap]):
    """Takes events and gaps out of a queue, in stream order. A cancelled iteration loses neither.

    Args:
        queue: The connection's queue.
    """

    __slots__ = ("_gaps", "_queue")

    def __init__(self, queue: EventQueue) -> None:
        self._queue = queue
        # Of the hole at hand, one per cause.
        self._gaps: deque[Gap] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event | Gap:
        """Return the next event, or the gap that stands before it."""
        if self._gaps:
            return self._gaps.popleft()
        item = await self._queue.take()
        if isinstance(item, Event):
            return item
        self._queue.report(item)
        self._gaps.extend(item.values())
        return self._gaps.popleft()
