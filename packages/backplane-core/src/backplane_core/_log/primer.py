"""Reads the ends of the logs before a pod begins to listen, for clients that other pods had: `Primer`."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping, Sequence
from typing import Final

from attrs import define, field

from backplane_core._log.mirror import Mirror
from backplane_core._log.pages import Entry, LogPages
from backplane_core._log.record import new_records
from backplane_core._protocol.frame import Head
from backplane_core._protocol.sequence import Tracker
from backplane_core._runtime.system import System
from backplane_core.errors import TransportError

__all__ = ["Primer"]

SHARE: Final = 1 / 8
"""Share of the time to connect that reading may take. A slow network needs the rest, and no link is live before."""
TURN_EVERY: Final = 64
"""Entries between two turns of the loop: some 1 ms."""


@define(eq=False)
class Primer:
    """Fills the mirror of a pod that starts, and its numbers, so that it knows copies of what it never handed out.

    Nothing of it is handed to a connection, and no order or question in it is followed: all of that was before this
    pod. The first link then goes on where this ended.

    Args:
        mirror: Is filled.
        pages: Reads the logs, from their ends.
        tracker: Takes the numbers.
        system: The clock.
        timeout_s: Seconds that the broker may take for a page. What was read within `SHARE` of them is used.
    """

    mirror: Mirror
    pages: LogPages
    tracker: Tracker
    system: System
    timeout_s: float
    _is_done: bool = field(default=False, init=False)

    async def run(self, channels: Sequence[str], places: MutableMapping[str, str]) -> None:
        """Fill the mirror, once.

        Args:
            channels: The lanes', in their order.
            places: Take where each log was read up to.

        Raises:
            TransportError: A log can't be read, or a page takes longer than `timeout_s`.
        """
        if self._is_done:
            return
        self.tracker.now = self.tracker.read_at = self.system.monotonic()
        ends = self.tracker.now + self.timeout_s * SHARE
        logs = [await self._read(channel, ends) for channel in channels]
        # As if they had come at the same pace, so that none is forgotten before the others.
        order = sorted(
            [((number + 1) / len(log), lane, number) for lane, log in enumerate(logs) for number in range(len(log))]
        )
        numbers: list[dict[str, int]] = [{} for _ in channels]
        for count, (_, lane, number) in enumerate(order, 1):
            cursor, head = logs[lane][number]
            self._take(channels[lane], lane, cursor, head, numbers[lane])
            places[channels[lane]] = cursor
            if not count % TURN_EVERY:
                await asyncio.sleep(0)
        self._is_done = True

    async def _read(self, channel: str, ends: float) -> list[Entry]:
        """Return the last entries of a log, as many as this lane's share of the mirror holds."""
        share = self.mirror.max_bytes // len(self.mirror.vector)
        entries: list[Entry] = []
        before: str | None = None
        while share > 0 and self.system.monotonic() < ends:
            page = await self._page(channel, before)
            if not page:
                break
            entries[:0] = page
            share -= sum([_size(head) for _, head in page])
            before = page[0][0]
        return entries

    async def _page(self, channel: str, before: str | None) -> list[Entry]:
        """Return a page, with a deadline of its own: no heartbeat watches a link that is not live yet."""
        try:
            async with asyncio.timeout(self.timeout_s):
                return (await self.pages.read(channel, before=before))[1]
        except TimeoutError:
            raise TransportError("the broker does not return its log: it is frozen, or the network is cut") from None

    def _take(self, channel: str, lane: int, cursor: str, head: Head | None, numbers: dict[str, int]) -> None:
        entry = None if head is None else self.pages.repeats.learned(head)
        for record in new_records(entry, lane, cursor, numbers):
            self.mirror.accept(record)
            if head is not None and head.seq is not None:
                self.tracker.learn(channel, head.origin, head.seq)
        self.mirror.passed(channel, cursor)


def _size(head: Head | None) -> int:
    return 200 if head is None else 700 + len(bytes(head.event))
