"""The event loop and the process that a backplane belongs to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from threading import get_ident
from typing import Final, TypeVar

from backplane_core.errors import ClosedError, WrongLoopError

__all__ = ["LoopBinding", "running_loop"]

T = TypeVar("T")

# Returns None where get_running_loop() raises. Exported by asyncio, and called as it is: once per publish.
running_loop: Final = asyncio._get_running_loop  # noqa: SLF001


def _never() -> bool:
    return False


class LoopBinding:
    """Belongs to the event loop of the first use, and to no other.

    Args:
        moves: Whether another loop may follow once that one is closed: what has no task of its own can, as a test
            suite wants it.
        loop: The loop; None before the first use.
        thread: The thread that the loop runs in. No other loop can run there while it does, so this and `is_running()`
            say that the caller is in it: to ask asyncio is a system call on Python 3.11. A publish looks for itself.
        is_running: Whether the loop runs. If it moves to another thread, the first call from there is what notices.
        is_child: Whether this is a forked child: then nothing here may be touched.
    """

    def __init__(self, *, moves: bool) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread: int | None = None
        self.is_running: Callable[[], bool] = _never
        self.is_child = False
        self._moves = moves

    def forked(self) -> None:
        """Let any loop of a forked child call in: nothing happens there any longer."""
        self.is_child = True

    def check(self) -> None:
        """Return if this is the right loop, or the first one.

        Raises:
            WrongLoopError: This is another loop, another thread, or no loop at all.
        """
        if self.is_child or (get_ident() == self.thread and self.is_running()):
            return
        running = running_loop()
        if running is not self.loop:
            if self.loop is not None and not (self._moves and self.loop.is_closed()):
                raise WrongLoopError(
                    "this backplane belongs to another event loop: use it there, or publish_threadsafe() from other "
                    "threads"
                )
            self.loop = running
        if running is not None:
            self.thread, self.is_running = get_ident(), running.is_running

    def call_threadsafe(self, section: Callable[[], T]) -> Future[T]:
        """Run a section in the loop, from any thread; the future holds what it returns or raises.

        Raises:
            ClosedError: There is no loop yet, it is closed, or it is the parent process's.
        """
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(section())
            except BaseException as error:
                future.set_exception(error)
                if not isinstance(error, Exception):
                    raise

        if self.is_child:
            raise ClosedError("this backplane belongs to the parent process: open one after the fork")
        if self.loop is None:
            raise ClosedError("enter the backplane first (async with), in the loop that it belongs to")
        try:
            self.loop.call_soon_threadsafe(run)
        except RuntimeError:
            raise ClosedError("the backplane's loop is closed") from None
        return future
