"""What waits for one that watches: `ChangeQueue`. A reader that is too slow gets a snapshot in place of changes."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from attrs import define, field

from backplane_core._presence.view import Follower, Step, View

__all__ = ["ChangeQueue"]

MAX_STEPS: Final = 1_024
"""Changes that may wait: each takes 2 KiB at most. A snapshot replaces those of a reader that is behind as far."""


@define(eq=False)
class ChangeQueue(Follower):
    """The changes of a view that one reader has not read yet.

    Args:
        view: The view.
    """

    view: View
    owes_snapshot: bool = field(default=False, init=False)
    """Whether what is shown now comes first."""
    _steps: deque[Step] = field(factory=deque[Step], init=False)
    _has_more: asyncio.Event = field(factory=asyncio.Event, init=False)
    _has_ended: bool = field(default=False, init=False)

    def step(self, step: Step) -> None:
        """Take the next change."""
        if self.owes_snapshot:
            return
        if len(self._steps) >= MAX_STEPS:
            self.start_over()
        else:
            self._steps.append(step)
            self._has_more.set()

    def start_over(self) -> None:
        """Take note that what is shown now is what to begin with."""
        self._steps.clear()
        self.owes_snapshot = True
        self._has_more.set()

    def end(self) -> None:
        """Take note that nothing else comes."""
        self._has_ended = True
        self._has_more.set()

    async def next(self) -> Step | View | None:
        """Return the next change; the view if what it shows now is to be taken; None at the end."""
        while (item := self.take()) is None and not self._has_ended:
            self._has_more.clear()
            await self._has_more.wait()
        return item

    def take(self) -> Step | View | None:
        """Return what `next` returns, or None if nothing waits."""
        if self.owes_snapshot:
            self.owes_snapshot = False
            return self.view
        return self._steps.popleft() if self._steps else None
