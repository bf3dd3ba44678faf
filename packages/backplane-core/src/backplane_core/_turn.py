"""A fair share of the event loop: a publisher in a tight loop must not starve the writer, nor its neighbours."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Final

from backplane_core._home import running_loop
from backplane_core._waking import Waiter, Waker

__all__ = ["EVENT", "Turn"]

EVENT: Final = 4 * 1024
"""What an event counts beside its bytes: so much JSON is as much work as a small event's way to the outbox."""
CREDIT: Final = 64 * EVENT
"""What all publishers together may take in one turn of the loop: some 0.2 ms of work, one write to a socket."""
SHARE: Final = CREDIT // 4
"""What one of several publishers that wait takes at a time: to go from one to the next costs as much as an event."""
AT_ONCE: Final = 64
"""Publishers that go on in one turn, also where they publish nothing more."""


class Turn:
    """What may be taken before the loop comes round. `publish` takes from it in place: it runs once per event.

    Args:
        left: `EVENT` and its bytes less for each event; at 0 or below whoever published should wait.
    """

    __slots__ = ("_loop", "_queue", "_waker", "left")

    def __init__(self) -> None:
        self.left = CREDIT
        self._queue: deque[_Place] = deque()
        self._waker = Waker()
        # Where the next turn is scheduled; None while nobody waits.
        self._loop: asyncio.AbstractEventLoop | None = None

    async def end(self) -> None:
        """Wait for a turn in which there is something left: first come, first served."""
        loop = running_loop()
        if self._loop is not loop:  # likewise where another loop was closed before it came to that: its tasks are gone
            assert loop is not None
            self._queue.clear()
            self._loop = loop
            loop.call_soon(self._begin, loop)
        await _Place(self._queue, self._waker)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        queue, rest = self._queue, CREDIT
        try:
            for _ in range(AT_ONCE):
                if not queue or rest <= 0:
                    break
                place = queue.popleft()
                self.left = share = min(rest, SHARE) if queue else rest
                place.go()
                rest -= share - self.left
        finally:
            self.left = rest
            if queue:
                loop.call_soon(self._begin, loop)
            else:
                self._loop = None


class _Place(Waiter):
    """A publisher's place in the queue. Who is cancelled keeps it: it is a matter of milliseconds."""

    __slots__ = ("_queue",)

    def __init__(self, queue: deque[_Place], waker: Waker) -> None:
        super().__init__(waker)
        self._queue = queue

    def add_done_callback(self, callback: Callable[[Waiter], object], *, context: Context) -> None:
        super().add_done_callback(callback, context=context)
        self._queue.append(self)

    def wake(self) -> None:
        """Nothing: the turn does."""

    def go(self) -> None:
        """Run the publisher's next step."""
        self.waiting = False
        self.resume()
