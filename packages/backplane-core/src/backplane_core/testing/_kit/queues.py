"""The queues of a broker in memory, and the holders of their entries: `MemoryQueues`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from attrs import define, field

from backplane_core.errors import TransportError
from backplane_core.queues import Delivery
from backplane_core.testing._kit.logs import Logs
from backplane_core.transport import Lost

__all__ = ["MemoryQueues"]

LOOK_S: Final = 0.01
"""How often a `take` that waits looks for what comes."""


@define(eq=False)
class Holders:
    """The holders of the entries of one queue.

    Args:
        lease_s: For how long an entry that was taken belongs to its worker.
        attempts: How often each entry was handed out, by its id.
        due: When each that was handed out may be taken again, in seconds of the monotonic clock.
        done: The ids of those that were finished.
    """

    lease_s: float
    attempts: dict[int, int] = field(factory=dict[int, int])
    due: dict[int, float] = field(factory=dict[int, float])
    done: set[int] = field(factory=set[int])


class MemoryQueues:
    """Hands out the entries of logs, each to one `take` at a time.

    Args:
        logs: Have the entries.
    """

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self._by_channel: dict[str, Holders] = {}

    def clear(self) -> None:
        """Forget who has what, as the logs are gone."""
        self._by_channel.clear()

    def open(self, channel: str, lease_s: float) -> bool:
        """Return whether the queue had workers before."""
        was_there = channel in self._by_channel
        if not was_there:
            self._by_channel[channel] = Holders(lease_s)
        return was_there

    async def take(self, channel: str, limit: int, *, wait_s: float) -> Sequence[Delivery | Lost]:
        """Return entries that nobody has; none if there was none for so many seconds.

        Raises:
            TransportError: The queue is gone.
        """
        ends_at = time.monotonic() + wait_s
        while True:
            taken = self._take(channel, limit)
            if taken or time.monotonic() >= ends_at:
                return taken
            await asyncio.sleep(LOOK_S)

    def _take(self, channel: str, limit: int) -> list[Delivery | Lost]:
        holders, now = self._holders(channel), time.monotonic()
        entries = {entry.id: entry for entry in self._logs.get(channel).entries}
        taken: list[Delivery | Lost] = []
        gone = [id_ for id_ in holders.due if id_ not in entries]
        if gone:
            for id_ in gone:
                del holders.due[id_]
            taken.append(Lost(channel, f"{len(gone)} entries were deleted", len(gone), cause="trimmed"))
        for id_, entry in entries.items():
            if len(taken) >= limit:
                break
            if id_ not in holders.done and holders.due.get(id_, now) <= now:
                holders.due[id_] = now + holders.lease_s
                attempt = holders.attempts[id_] = holders.attempts.get(id_, 0) + 1
                taken.append(Delivery(token=str(id_), payload=entry.payload, attempt=attempt))
        return taken

    def delay(self, channel: str, tokens: Sequence[str], delay_s: float | None) -> None:
        """Have these entries come again after so many seconds; None: once a lease is over."""
        holders = self._holders(channel)
        for token in tokens:
            if int(token) in holders.due:
                holders.due[int(token)] = time.monotonic() + (holders.lease_s if delay_s is None else delay_s)

    def finish(self, channel: str, tokens: Sequence[str]) -> None:
        """Have nobody get these entries again."""
        holders = self._holders(channel)
        for token in tokens:
            holders.due.pop(int(token), None)
            holders.done.add(int(token))

    def _holders(self, channel: str) -> Holders:
        holders = self._by_channel.get(channel)
        if holders is None:
            raise TransportError(f"the queue {channel!r} was deleted")
        return holders
