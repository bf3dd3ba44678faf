"""Reads the last entries of one log before a position, for a history: `WindowReader`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from attrs import define, field, frozen

from backplane_core._log.pages import Entry, LogPages
from backplane_core._log.record import Record, new_records
from backplane_core._log.wanted import Wanted
from backplane_core._protocol.position import origin_key
from backplane_core.errors import TransportError
from backplane_core.transport import Lost

__all__ = ["SLICE", "Window", "WindowReader"]

MAX_ENTRIES: Final = 20_000
"""Most entries of a log that are read for one history: they take some seconds."""
SLICE: Final = 256
"""Entries that are read before the event loop gets a turn: a millisecond or two."""
WAIT_S: Final = 5.0
"""Seconds to wait for a page while the log can't be read."""
RETRY_S: Final = 0.1
ATTEMPTS: Final = 3
"""How often a position is searched for."""


@define(eq=False)
class Window:
    """Consecutive entries of a log.

    Args:
        before: The cursor before the first one; empty if they begin with the log.
        entries: Their cursors, each with its record if that is wanted.
        beyond: Wanted records after the last one, whose senders were ahead of the log.
    """

    before: str = ""
    entries: list[tuple[str, Record | None]] = field(factory=list[tuple[str, Record | None]])
    beyond: list[Record] = field(factory=list[Record])

    @property
    def is_from_start(self) -> bool:
        """Whether the log has nothing before them."""
        return not self.before


@frozen
class WindowReader:
    """Reads one log, backwards, in pages.

    Args:
        pages: Reads the pages.
        channel: The log's channel.
        lane: Its lane.
        wanted: Decides which records are wanted.
    """

    pages: LogPages
    channel: str
    lane: int
    wanted: Wanted

    async def read(self, limit: int, cursor: str | None, ahead: Mapping[str, int]) -> Window:
        """Return a window with up to this many wanted records before a position.

        Args:
            limit: The most wanted records.
            cursor: The position, inclusive; None: the end of the log.
            ahead: Senders that were ahead of the log there, with their last numbers.

        Raises:
            TransportError: The log can't be read.
        """
        async with self.pages.turns:
            page, beyond = await self._begin(cursor, ahead)
            entries, oldest, found = page, len(page), 0
            # The oldest page is kept to recognize copies of its events, so that paging on returns none of them twice.
            while page and found < limit and (len(entries) < MAX_ENTRIES or len(entries) == oldest):
                found += sum([self.wanted.may_have(head, self.lane, place) for place, head in page])
                _, page = await self._page(before=entries[0][0])
                entries, oldest = [*page, *entries], len(page)
        return await self._window(entries, oldest, beyond)

    async def _begin(self, cursor: str | None, ahead: Mapping[str, int]) -> tuple[list[Entry], list[Entry]]:
        """Return the page that ends at a position, and the entries after it of senders that were ahead."""
        for _ in range(0 if cursor is None else ATTEMPTS):
            lost, following = await self._page(after=cursor)
            if lost is not None and lost.cause == "epoch":
                return [], []  # the log has lost it and everything before it
            beyond = await self._beyond(following, ahead)
            if lost is not None:
                return [], beyond
            if following:
                _, page = await self._page(before=following[0][0])
                return page, beyond
            _, page = await self._page()
            places = [place for place, _ in page]
            if cursor in places:
                return page[: places.index(cursor) + 1], beyond
            # Either many entries were added meanwhile, or it was the last entry and was deleted.
        _, page = await self._page()
        return page, []

    async def _beyond(self, following: list[Entry], ahead: Mapping[str, int]) -> list[Entry]:
        found: list[Entry] = []
        waiting, count = dict(ahead), 0
        while following and waiting and count < MAX_ENTRIES:
            for place, head in following:
                sender = "" if head is None else origin_key(head.origin)
                if head is None or head.seq is None or sender not in ahead:
                    continue
                if head.seq <= ahead[sender]:
                    found.append((place, head))
                if head.seq >= ahead[sender]:
                    waiting.pop(sender, None)
            count += len(following)
            if waiting:
                _, following = await self._page(after=following[-1][0])
        return found

    async def _window(self, entries: list[Entry], oldest: int, beyond: list[Entry]) -> Window:
        numbers: dict[str, int] = {}
        window = Window(entries[oldest - 1][0] if oldest else "")
        for number, (place, head) in enumerate(entries):
            if not number % SLICE:
                await asyncio.sleep(0)
            records = [one for one in new_records(head, self.lane, place, numbers) if self.wanted.has(one)]
            if number >= oldest:
                window.entries.append((place, records[0] if records else None))
        for place, head in beyond:
            window.beyond += [one for one in new_records(head, self.lane, place, numbers) if self.wanted.has(one)]
        for record in window.beyond:
            record.cursor = ""  # the entries in between were not read
        return window

    async def _page(self, *, after: str | None = None, before: str | None = None) -> tuple[Lost | None, list[Entry]]:
        try:
            async with asyncio.timeout(WAIT_S):
                while True:
                    try:
                        return await self.pages.read(self.channel, after=after, before=before)
                    except TransportError:
                        await asyncio.sleep(RETRY_S)
                        await self.pages.wait()
        except TimeoutError:
            raise TransportError(f"the log could not be read within {WAIT_S:g} s") from None
