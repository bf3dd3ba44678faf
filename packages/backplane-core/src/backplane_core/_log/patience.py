"""How long clients that come back wait for a log that can't be read: `Patience`."""

from __future__ import annotations

import asyncio
from typing import Final

from attrs import define, field

from backplane_core._log.pages import Entry, LogPages
from backplane_core.errors import TransportError
from backplane_core.transport import Lost

__all__ = ["WAIT_S", "Patience"]

WAIT_S: Final = 5.0
"""Seconds for which a client waits for a log that can't be read, or for this pod to read what another has read."""
RETRY_S: Final = 0.1
TRIAL_S: Final = 0.25
"""Seconds that a page may take in a log that could not be read for longer than that: somebody has to find out that it
can be read again."""
NO_LINK: Final = ""


@define(eq=False)
class Patience:
    """Reads pages for clients, and waits while a log can't be read.

    The invariant: nobody waits for longer than `WAIT_S` while nothing can be read, however many wait. And as long as
    the log is read for those before it, the time that a client waits for its turn costs it nothing.

    An example. 10,000 clients come at 0.0, and the broker dies at 20.0, with 3,000 of them served. Those that are being
    read for wait until 25.0, and get a gap. From then on, each of the others has one as soon as its turn comes: their
    wait of 5 seconds is over as well. Had each begun to wait with its turn, the last ones would have waited an hour.

    Args:
        pages: Reads.
    """

    pages: LogPages
    # By channel, or for the link: since when nothing could be read.
    _failing: dict[str, float] = field(factory=dict[str, float], init=False)

    async def read(
        self, channel: str, came_at: float, *, after: str | None = None, before: str | None = None
    ) -> tuple[Lost | None, list[Entry]]:
        """Return a page, as `LogPages.read` does.

        Args:
            channel: The log's.
            came_at: When the client came, on the loop's clock.
            after: See `LogPages.read`.
            before: See there.

        Raises:
            TimeoutError: The log can't be read.
        """
        now = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(self._until(channel, came_at, now)):
                while True:
                    try:
                        page = await self.pages.read(channel, after=after, before=before)
                    except TransportError:
                        self._failed(channel, now)
                        await asyncio.sleep(RETRY_S)
                        await self.pages.wait()
                    else:
                        self._failing.pop(channel, None)
                        self._failing.pop(NO_LINK, None)
                        return page
        except TimeoutError:
            self._failed(channel, now)
            raise

    def _until(self, channel: str, came_at: float, now: float) -> float:
        since = self._failing.get(channel if self.pages.is_open else NO_LINK)
        if since is None:
            return now + WAIT_S
        until = max(came_at, since) + WAIT_S
        return max(until, now + TRIAL_S) if self.pages.is_open else until

    def _failed(self, channel: str, since: float) -> None:
        self._failing.setdefault(channel if self.pages.is_open else NO_LINK, since)
