"""The same as `own_waiters`, by asyncio's documented futures alone: for a Python whose tasks work in another way.

It keeps every promise but two, which are about speed: each task that is woken has a callback of its own, and none goes
on before the callback that woke it has returned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

from backplane_core._runtime.loop_binding import running_loop

__all__ = ["Confirmation", "Waiter", "WakeQueue"]


class WakeQueue:
    """Nothing: a loop wakes the tasks that wait for futures, in the order in which those were set."""

    __slots__ = ()


class Waiter:
    """Awaited again and again by one task at a time; each await lasts until the next `wake`.

    Args:
        waker: Shared by all that are woken together.

    Raises:
        RuntimeError: On await: another task of this loop waits, or has not gone on yet.

    Cancellation: as of a future: a task that is cancelled once it was woken raises, and what woke it is not lost.
    """

    __slots__ = ("_future", "_loop")

    def __init__(self, waker: WakeQueue) -> None:  # noqa: ARG002 -- as in `own_waiters`
        self._loop: asyncio.AbstractEventLoop | None = None
        self._future: asyncio.Future[None] | None = None

    @property
    def waiting(self) -> bool:
        """Whether a task waits, and was neither woken nor cancelled."""
        return self._future is not None and not self._future.done()

    def __await__(self) -> Generator[Any, None, Any]:
        loop = running_loop()
        if self._future is not None and self._loop is loop:
            raise RuntimeError("this is being read already: one reader at a time")
        if loop is None:
            raise RuntimeError("no running event loop")
        self._loop = loop
        self._future = future = loop.create_future()
        try:
            yield from future
        finally:
            if self._future is future:  # a closed loop's task may be collected while another waits
                self._future = None

    def wake(self) -> None:
        """Let the task that waits go on, soon; nothing if none does."""
        future, loop = self._future, self._loop
        if future is None or future.done():
            return
        if loop is None or loop.is_closed():  # the task is gone, with its loop
            self._future = None
        else:
            future.set_result(None)

    def go_on(self) -> None:
        """Let the task that waits go on, soon."""
        self.wake()


class Confirmation(Waiter):
    """What one task awaits and a callback sets.

    It is no future: `await` it, under `asyncio.timeout` if need be; `wait_for`, `gather` and `shield` take it for one.

    Awaiting returns the answer, True or False. Set twice, or after its task was cancelled, it is harmless. Made by
    `Inbox.confirmation`.
    """

    __slots__ = ("value",)

    def __init__(self, waker: WakeQueue) -> None:
        super().__init__(waker)
        self.value: bool | None = None
        """None: not yet."""

    def set(self, confirmed: bool, /) -> None:  # noqa: FBT001 -- all that there is to say
        """Confirm or refuse, the first time.

        Args:
            confirmed: What awaiting returns: True if the broker confirmed, False if it never will.
        """
        if self.value is None:
            self.value = confirmed
            self.go_on()

    def __await__(self) -> Generator[Any, None, bool]:
        while self.value is None:
            yield from super().__await__()
        return self.value
