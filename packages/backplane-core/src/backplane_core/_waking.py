"""How a connection's reader waits and is woken: without a future per event, and many readers from one callback.

`Waiter` is what a task can await beside asyncio's own futures, by the protocol that `asyncio.isfuture` names. Tasks ask
for `_asyncio_future_blocking`, `get_loop`, `add_done_callback`, `cancel` and `result`, and for nothing else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Final

from backplane_core._home import running_loop

__all__ = ["Waiter", "Waker"]

AT_ONCE: Final = 128
"""Readers that are woken before the loop gets a turn: well under a millisecond, beside what they do themselves."""


class Waker:
    """Wakes waiters in the order in which they were called, soon, all from one callback of the loop."""

    __slots__ = ("_called", "_running")

    def __init__(self) -> None:
        self._called: deque[Waiter] = deque()
        self._running = False

    def soon(self, waiter: Waiter) -> None:
        """Wake this one in a turn of its loop that comes next."""
        self._called.append(waiter)
        if not self._running:
            self._running = True
            waiter.get_loop().call_soon(self._run)

    def _run(self) -> None:
        called = self._called
        loop = called[0].get_loop()
        try:
            for _ in range(min(AT_ONCE, len(called))):
                called.popleft().resume()
        finally:
            # Also when a reader raised what ends the program: the others may still clean up.
            if called:
                loop.call_soon(self._run)
            else:
                self._running = False


class Waiter:
    """Awaited again and again by one task at a time; each await lasts until the next `wake`.

    Args:
        waker: Shared by all that are woken together.
        waiting: Whether a task waits.

    Cancellation: as of a future: a task that is cancelled once it was woken raises, and what woke it is not lost.
    """

    __slots__ = ("_asyncio_future_blocking", "_callback", "_cancelled", "_context", "_loop", "_waker", "waiting")

    def __init__(self, waker: Waker) -> None:
        self._waker = waker
        self._loop: asyncio.AbstractEventLoop | None = None
        self._callback: Callable[[Waiter], object] | None = None
        self._context: Context | None = None
        self._cancelled: tuple[object, ...] | None = None
        self._asyncio_future_blocking = False
        self.waiting = False

    def __await__(self) -> Generator[Waiter]:
        self._loop = running_loop()
        self._asyncio_future_blocking = True
        yield self

    def wake(self) -> None:
        """Let the task that waits go on; nothing if none does."""
        if self.waiting:
            self.waiting = False
            self._waker.soon(self)

    def resume(self) -> None:
        """Run the task's next step, now."""
        callback, context = self._callback, self._context
        self._callback = self._context = None
        if callback is not None and context is not None:
            context.run(callback, self)

    # What a task asks of what it awaits

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop of the task that waits."""
        assert self._loop is not None, "it was awaited before"
        return self._loop

    def add_done_callback(self, callback: Callable[[Waiter], object], *, context: Context) -> None:
        """Keep what resumes the task."""
        self._callback, self._context = callback, context
        self.waiting = True

    def cancel(self, msg: object = None) -> bool:
        """Let the task raise `CancelledError`; False if it is to go on already: then it does so there."""
        if not self.waiting:
            return False
        self._cancelled = () if msg is None else (msg,)
        self.wake()
        return True

    def result(self) -> None:
        """Return, or raise as `cancel` asked."""
        cancelled, self._cancelled = self._cancelled, None
        if cancelled is not None:
            raise asyncio.CancelledError(*cancelled)
