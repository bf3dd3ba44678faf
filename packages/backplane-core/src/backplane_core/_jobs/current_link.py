"""The link over which jobs are taken, as long as there is one: `CurrentLink`."""

from __future__ import annotations

import asyncio

from backplane_core.errors import ClosedError
from backplane_core.queues import QueueLink

__all__ = ["CurrentLink"]


class CurrentLink:
    """Knows the link that is live now, and lets workers wait for the next one."""

    def __init__(self) -> None:
        self._link: QueueLink | None = None
        self._changed = asyncio.Event()
        self._is_closed = False

    @property
    def now(self) -> QueueLink | None:
        """The link that is live; None: there is none."""
        return self._link

    def opened(self, link: QueueLink) -> None:
        """Record that a link is live."""
        self._link = link
        self._changed.set()

    def lost(self) -> None:
        """Record that the link is gone."""
        self._link = None
        if not self._is_closed:
            self._changed.clear()

    def close(self) -> None:
        """Have everyone who waits, or will, get an error."""
        self._link = None
        self._is_closed = True
        self._changed.set()

    def check_open(self) -> None:
        """Return if there may be a link, now or later.

        Raises:
            ClosedError: There will be none.
        """
        if self._is_closed:
            raise ClosedError("the backplane is closed")

    async def wait(self) -> QueueLink:
        """Return the link that is live, as soon as there is one.

        Raises:
            ClosedError: There will be none.
        """
        while True:
            self.check_open()
            if self._link is not None:
                return self._link
            await self._changed.wait()
