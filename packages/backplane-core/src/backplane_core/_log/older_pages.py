"""What a client missed of one log that memory has forgotten, read page by page: `OlderPages`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from attrs import define, field

from backplane_core._log.mirror import Mirror
from backplane_core._log.pages import Entry
from backplane_core._log.patience import Patience
from backplane_core._log.record import Record, new_records
from backplane_core._log.returning import Return
from backplane_core._protocol.frame import Head
from backplane_core._protocol.position import origin_key
from backplane_core.transport import Lost

__all__ = ["MAX_ENTRIES", "MAX_REPLAYED", "OlderPages"]

MAX_ENTRIES: Final = 100_000
"""Entries of a log that are read for one client: what a log keeps by default, and some seconds. One that missed more is
notified of a gap."""
MAX_REPLAYED: Final = 10_000
"""Events that one client is handed at once: a page can't follow more, and loads the state."""

PASSED_OVER: Final = "events were lost before the log had them, while the client was away"


@define(eq=False)
class OlderPages:
    """Reads a log from a client's place up to what the mirror has.

    The mirror may forget more before the client is attached: then it goes on where it stood, and reads nothing twice.

    Args:
        mirror: Has what comes last.
        patience: Reads pages.
        client: The client that came back.
        lane: The log's lane.
        after: Behind which entry the next page begins.
        came_at: When the client came, on the loop's clock.
    """

    mirror: Mirror
    patience: Patience
    client: Return
    lane: int
    after: str
    came_at: float
    records: list[Record] = field(factory=list[Record], init=False)
    """What the client missed, in order."""
    passed_over: int = field(default=0, init=False)
    """Numbers of senders that the log never had, between such that it has: events that were lost before they got there,
    of which a connection that stayed was notified."""
    _gone: list[Lost] = field(factory=list[Lost], init=False)
    start: int | None = field(default=None, init=False)
    """Behind which serial of the mirror the client goes on; None: it has not come that far."""
    is_over: bool = field(default=False, init=False)
    """Whether the client goes on with what comes, as nobody can tell what is between."""
    is_too_long: bool = field(default=False, init=False)
    """Whether it missed more than is read for one client."""
    _numbers: dict[str, int] | None = field(default=None, init=False)
    # Senders whose last number is known, with nothing gone since then that was reported.
    _followed: set[str] = field(factory=set[str], init=False)
    _count: int = field(default=0, init=False)

    @property
    def lost(self) -> Sequence[Lost]:
        """What the log has no longer, or never had."""
        if not self.passed_over:
            return self._gone
        return [*self._gone, Lost(self._channel, PASSED_OVER, self.passed_over)]

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to read, at this moment."""
        return self.is_over or (self.start is not None and self.start >= self.mirror.forgotten[self.lane])

    async def read(self) -> bool:
        """Read the next page; return False if this pod has not read as far as the client.

        Raises:
            TimeoutError: The log can't be read.
        """
        self.start = None
        lost, entries = await self.patience.read(self._channel, self.came_at, after=self.after)
        if lost is not None:
            self._gone.append(lost)
            self._followed.clear()  # what is missing now is among what is gone
            if lost.cause == "epoch":
                self.records.clear()
                self.is_over = True
                return True
        if not entries:
            if lost is None:
                return False
            self.start = self.mirror.forgotten[self.lane]  # all of it that is left is in memory
            return True
        if self._numbers is None:
            self._numbers = await self._numbers_before(entries[0][0])
        for entry in entries:
            if self._meets(entry, self._numbers):
                return True
        self._count += len(entries)
        if len(self.records) > MAX_REPLAYED or self._count > MAX_ENTRIES:
            self.records.clear()
            self.is_over = self.is_too_long = True
        return True

    def _meets(self, entry: Entry, numbers: dict[str, int]) -> bool:
        """Take an entry, unless the mirror has it; return whether the client goes on there."""
        (place, head), mirror, lane = entry, self.mirror, self.lane
        known, forgotten = mirror.known(lane, place), mirror.forgotten[lane]
        if known is not None and known > forgotten and place != mirror.bare[lane]:
            self.start = known - 1
            return True
        self._look_for_hole(head, numbers)
        self.records += [one for one in new_records(head, lane, place, numbers) if self.client.is_for(one)]
        self._follow(head, numbers)
        self.after = place
        if known is None or (known < forgotten and place != mirror.vector[lane]):
            return False
        # Only the position is known, not its entry.
        self.start = max(known, forgotten) if known <= forgotten else known - 1
        return True

    async def _numbers_before(self, cursor: str) -> dict[str, int]:
        """Return the last numbers of senders up to a place: what comes again behind it is a copy.

        Raises:
            TimeoutError: The log can't be read.
        """
        _, entries = await self.patience.read(self._channel, self.came_at, before=cursor)
        numbers: dict[str, int] = {}
        for _, head in entries:
            self._follow(head, numbers)
        return numbers

    def _look_for_hole(self, head: Head | None, numbers: Mapping[str, int]) -> None:
        """Count the numbers that are missing before a frame, if its sender's last one is known."""
        if head is not None and head.seq is not None and (sender := origin_key(head.origin)) in self._followed:
            self.passed_over += max(0, head.seq - numbers[sender] - 1)

    def _follow(self, head: Head | None, numbers: dict[str, int]) -> None:
        """Take the number of a frame that is passed."""
        if head is not None and head.seq is not None:
            sender = origin_key(head.origin)
            numbers[sender] = max(numbers.get(sender, 0), head.seq)
            self._followed.add(sender)

    @property
    def _channel(self) -> str:
        return self.mirror.channel(self.lane)
