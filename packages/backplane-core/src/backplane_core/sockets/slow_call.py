"""What may take a moment, such as asking a service for a token, called without holding the loop: `SlowCall`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future as ConcurrentFuture
from typing import Generic, TypeVar

from backplane_core._runtime.tasks import retrieve_error

__all__ = ["SlowCall"]

T = TypeVar("T")


class SlowCall(Generic[T]):
    """Calls a function in a thread, in one at a time: a function that hangs must not collect threads.

    Args:
        function: The user's; called in any thread.
    """

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._running: ConcurrentFuture[T] | None = None

    async def result(self) -> T:
        """Return what the function returns; who asks while it runs gets the same answer.

        Raises:
            Exception: What the function raises.

        Cancellation: the call goes on, and the next one who asks gets its answer, unless it is over by then.
        """
        if self._running is None or self._running.done():
            self._running = ConcurrentFuture()
            self._start(self._running)
        answer = asyncio.wrap_future(self._running)
        answer.add_done_callback(retrieve_error)
        return await asyncio.shield(answer)

    def _start(self, running: ConcurrentFuture[T]) -> None:
        # No executor's: a function that hangs would hold up the end of the interpreter.
        thread = threading.Thread(target=self._call, args=(running,), name="backplane-call", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            if "shutdown" not in str(error):
                raise
            self._call(running)  # the interpreter ends, and starts no thread: as in `off_loop`

    def _call(self, running: ConcurrentFuture[T]) -> None:
        try:
            result = self._function()
        except BaseException as error:  # noqa: BLE001 -- it belongs to those who wait
            running.set_exception(error)
        else:
            running.set_result(result)
