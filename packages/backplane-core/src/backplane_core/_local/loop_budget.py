"""A fair share of the event loop: a publisher in a tight loop must not starve the writer or its neighbours."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from types import coroutine
from typing import Final

__all__ = ["LoopBudget"]

MESSAGES: Final = 64
BYTES: Final = 256 * 1024
"""What all publishers together may use up in one turn of the loop: some 0.2 ms of work, one write to a socket."""


class LoopBudget:
    """What was used since the loop last turned. `publish` adds to it in place, since it runs once per event."""

    __slots__ = ("_ending", "bytes", "messages")

    def __init__(self) -> None:
        self.messages = 0
        self.bytes = 0
        self._ending = False

    @property
    def is_spent(self) -> bool:
        """Whether the next publisher should wait for the loop."""
        return self.messages >= MESSAGES or self.bytes >= BYTES

    @coroutine
    def end(self) -> Generator[None]:
        """Let the loop run."""
        if not self._ending:
            # Reset only after the loop has turned, so that many publishers share one budget.
            self._ending = True
            asyncio.get_running_loop().call_soon(self._begin)
        yield  # `asyncio.sleep(0)` takes two more frames, for which each of many publishers would pay in each turn

    def _begin(self) -> None:
        self._ending = False
        self.messages = self.bytes = 0
