"""What is on its way from the broker to a link, in order: frames, and confirmations among them."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from backplane_core.testing._faulty.pauses import wake
from backplane_core.transport import Frame, Lost

__all__ = ["Line"]


class LineEnd(Protocol):
    """What stands at the end of a line."""

    def arrive(self, frame: Frame) -> None:
        """Take what came."""
        ...


class Line:
    """One way with a delay: nothing on it overtakes anything else.

    Args:
        end: Gets what arrives, confirmations too; `sift` takes those out.
    """

    def __init__(self, end: LineEnd) -> None:
        self.due = 0.0
        """When the last of what is on its way arrives."""
        self._end = end
        self._frames: deque[Frame] = deque()
        # Those that wait for a confirmation, by the id of the frame that stands for it.
        self._confirmations: dict[int, asyncio.Future[None]] = {}

    def __bool__(self) -> bool:
        return bool(self._frames)

    def put(self, frame: Frame, delay_s: float) -> None:
        """Send a frame on its way, behind those that are on it."""
        loop = asyncio.get_running_loop()
        due = max(self.due, loop.time() + delay_s)
        if due <= loop.time() and not self._frames:
            self._end.arrive(frame)
        else:
            self.due = due
            self._frames.append(frame)
            # Timers of one moment run in any order: each brings the frame whose turn it is.
            loop.call_at(due, self._bring)

    def _bring(self) -> None:
        self._end.arrive(self._frames.popleft())

    def put_confirmation(self, waiter: asyncio.Future[None], delay_s: float) -> Frame:
        """Send a confirmation on its way, and return what stands for it; `sift` wakes the waiter."""
        place: Frame = ("", bytes(bytearray(1)))  # a new one each: a constant would be the same
        self._confirmations[id(place)] = waiter
        self.put(place, delay_s)
        return place

    def give_up(self, place: Frame) -> None:
        """Forget a confirmation; a no-op if it has come."""
        self._confirmations.pop(id(place), None)

    def sift(self, items: list[Frame | Lost]) -> list[Frame | Lost]:
        """Take the confirmations out of what arrived, and wake those that wait for them; return the rest."""
        return [item for item in items if not self._confirms(item)] if self._confirmations else items

    def _confirms(self, item: Frame | Lost) -> bool:
        waiter = self._confirmations.pop(id(item), None)
        if waiter is None:
            return False
        wake(waiter)
        return True
