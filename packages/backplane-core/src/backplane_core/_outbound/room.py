"""Whether publishers should wait for the outbox, and what they wait for: `Room`."""

from __future__ import annotations

import asyncio

from backplane_core._outbound.outbox import Outbox

__all__ = ["Room"]


class Room:
    """Room in the outbox, of which half is left to those who do not wait.

    Args:
        outbox: The pod's.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._found = asyncio.Event()
        self._waited_in_vain = False

    @property
    def is_short(self) -> bool:
        """Whether a publisher should wait: the outbox is over half full, and nobody waited in vain since."""
        if not self._outbox.over_half:
            self._waited_in_vain = False
            return False
        return not self._waited_in_vain

    async def wait(self, timeout_s: float) -> None:
        """Return once the outbox is under half full; at once if it was not, and somebody waited in vain.

        Args:
            timeout_s: Seconds to wait at most.
        """
        if self.is_short:
            self._found.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._found.wait()
            except TimeoutError:
                self._waited_in_vain = True

    def check(self) -> None:
        """Let all who wait go on if there is room now."""
        if not self._outbox.over_half:
            self._found.set()
