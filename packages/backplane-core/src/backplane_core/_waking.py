"""How a connection's reader waits and is woken: without a future per event, and many readers from one callback.

`Waiter` is what a task can await beside asyncio's own futures, by the protocol that `asyncio.isfuture` names. Tasks ask
for `_asyncio_future_blocking`, `_loop`, `add_done_callback`, `cancel` and `result`, and for nothing else.
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
    """Wakes waiters in the order in which they were called, soon, all from one callback of their loop.

    Args:
        called: Who is to be woken.
        loop: Where that is scheduled; None while nobody is called.
    """

    __slots__ = ("called", "loop")

    def __init__(self) -> None:
        self.called: deque[Waiter] = deque()
        self.loop: asyncio.AbstractEventLoop | None = None

    def run_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake all that are called until then, in a turn of the loop that comes next."""
        if self.loop is not None:  # closed before it came to that: its tasks are gone
            while len(self.called) > 1:
                self.called.popleft()
        self.loop = loop
        loop.call_soon(self._run, loop)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        called = self.called
        try:
            for _ in range(min(AT_ONCE, len(called))):
                called.popleft().resume()
        finally:
            # Also when a reader raised what ends the program: the others may still clean up.
            if called:
                loop.call_soon(self._run, loop)
            else:
                self.loop = None


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

    @property
    def busy(self) -> bool:
        """Whether a task of this loop waits, or was woken or cancelled and has not gone on yet."""
        return self._callback is not None and self._loop is running_loop()

    def __await__(self) -> Generator[Waiter]:
        self._loop = running_loop()
        self._cancelled = None
        self._asyncio_future_blocking = True
        yield self

    def wake(self) -> None:
        """Let the task that waits go on, soon; nothing if none does."""
        if self.waiting and self._loop is not None:
            self.waiting = False
            waker = self._waker
            waker.called.append(self)
            if waker.loop is not self._loop:
                waker.run_soon(self._loop)

    def go_on(self) -> None:
        """Let the task that waits go on: before this returns, unless a task is running or others are called, else soon.

        So nobody overtakes who was called before.
        """
        if self.waiting:
            loop = running_loop()
            if loop is self._loop and not self._waker.called and asyncio.current_task(loop) is None:
                self.waiting = False
                self.resume()
            else:
                self.wake()

    def resume(self) -> None:
        """Run the task's next step, now."""
        callback, context = self._callback, self._context
        self._callback = self._context = None
        if callback is not None and context is not None:
            context.run(callback, self)

    # What a task asks of what it awaits

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
