"""A fair share of the event loop: a publisher in a tight loop must not starve the writer, nor its neighbours."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Final

from backplane_core._home import running_loop
from backplane_core._waking import Waiter, Waker

__all__ = ["BYTES", "Place", "Turn"]

MESSAGES: Final = 64
BYTES: Final = 256 * 1024
"""What all publishers together may take in one turn of the loop: some 0.2 ms of work, one write to a socket."""
SHARE: Final = 16
"""Events that one of several publishers that wait takes at a time: to go from one to the next costs as much as one."""


class Turn:
    """What was taken since the loop last came round. `publish` adds to it in place: it runs once per event.

    Args:
        messages: How many events were taken.
        bytes: The same in bytes of JSON; at `BYTES` whoever published should wait.
        most: At how many events likewise.
    """

    __slots__ = ("_loop", "_queue", "_waker", "bytes", "messages", "most")

    def __init__(self) -> None:
        self.messages = 0
        self.bytes = 0
        self.most = MESSAGES
        self._queue: deque[Place] = deque()
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
        await Place(self._queue, self._waker)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self.messages = self.bytes = 0
        queue = self._queue
        try:
            for _ in range(MESSAGES):  # also of those that publish nothing more
                if not queue or self.messages >= MESSAGES or self.bytes >= BYTES:
                    break
                place = queue.popleft()
                self.most = min(MESSAGES, self.messages + SHARE) if queue else MESSAGES
                place.go()
        finally:
            self.most = MESSAGES
            if queue:
                loop.call_soon(self._begin, loop)
            else:
                self._loop = None


class Place(Waiter):
    """A publisher's place in the queue. Who is cancelled keeps it: it is a matter of milliseconds."""

    __slots__ = ("_queue",)

    def __init__(self, queue: deque[Place], waker: Waker) -> None:
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
