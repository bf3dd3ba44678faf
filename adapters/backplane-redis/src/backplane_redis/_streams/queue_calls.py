"""What a link to streams lets others do with jobs: `QueueCalls`, over whatever keeps the queues."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

from backplane_core import Delivery, Lost

__all__ = ["QueueCalls", "Queues"]


class Queues(Protocol):
    """Shares the jobs of queues out: those of one server, or of the nodes of a cluster. See `QueueLink` for each."""

    async def open(self, channel: str, lease_s: float) -> bool:
        """Return whether the queue had workers before, once entries can be taken from it."""
        ...

    async def take(self, channel: str, limit: int, *, wait_s: float) -> Sequence[Delivery | Lost]:
        """Return entries that nobody has; none if there was none for so many seconds."""
        ...

    async def extend(self, channel: str, tokens: Sequence[str]) -> None:
        """Keep these entries for their worker."""
        ...

    async def give_back(self, channel: str, token: str, *, delay_s: float) -> None:
        """Let another `take` have an entry, after the delay."""
        ...

    async def finish(self, channel: str, tokens: Sequence[str]) -> None:
        """Let nobody get these entries again."""
        ...

    async def aclose(self) -> None:
        """Close what was opened for queues, at once; what waits there raises."""
        ...


class QueueCalls(ABC):
    """The part of a link to streams that is about jobs; see `QueueLink`."""

    _queues: Queues

    @abstractmethod
    def _check(self) -> None:
        """Raise if the link is dead."""

    async def open_queue(self, channel: str, *, lease_s: float) -> bool:
        """Return whether the queue had workers before, once entries can be taken from it."""
        self._check()
        return await self._queues.open(channel, lease_s)

    async def take(self, channel: str, limit: int, *, wait_s: float) -> Sequence[Delivery | Lost]:
        """Return entries that nobody has; none if there was none for so many seconds."""
        self._check()
        return await self._queues.take(channel, limit, wait_s=wait_s)

    async def extend(self, channel: str, tokens: Sequence[str]) -> None:
        """Keep these entries for their worker."""
        self._check()
        await self._queues.extend(channel, tokens)

    async def give_back(self, channel: str, token: str, *, delay_s: float) -> None:
        """Let another `take` have an entry, after the delay."""
        self._check()
        await self._queues.give_back(channel, token, delay_s=delay_s)

    async def finish(self, channel: str, tokens: Sequence[str]) -> None:
        """Let nobody get these entries again."""
        self._check()
        await self._queues.finish(channel, tokens)
