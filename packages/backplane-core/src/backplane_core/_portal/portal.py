"""The event loop of everything in a process that has none: `Portal`, on a thread of its own.

enter(resident)         starts the thread, if this is the first one
portal.soon(section)    from any thread, also from a signal handler: never waits, takes no lock
portal.run(coroutine)   from any thread but its own: waits for the result
portal.dismiss(...)     the last one to leave ends the loop and the thread
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures.thread
import encodings.idna
import os
import sys
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError as ConcurrentCancelledError
from concurrent.futures import Future as ConcurrentFuture
from contextlib import suppress
from time import monotonic
from typing import Any, Final, Protocol, TypeVar

from backplane_core._portal.native import has_greenlets_for_threads, pause, result_of, start_thread
from backplane_core._runtime.logging import logger
from backplane_core._runtime.loop_binding import running_loop
from backplane_core.errors import ClosedError

__all__ = ["Portal", "Resident", "enter"]

T = TypeVar("T")

CLOSE_S: Final = 5.0
"""Seconds for which the end of a process waits for what was accepted, as closing a publisher does by default."""
IMPORTED: Final = (concurrent.futures.thread, encodings.idna)
"""What asyncio and `socket` import when they resolve a host's name for the first time: see `Portal.run_thread`."""
GONE_S: Final = 1.0
"""Seconds for which closing waits for the thread: a callback that never returns must not hang the program's end."""


class Resident(Protocol):
    """What lives in a portal's loop."""

    @abstractmethod
    async def leave(self, drain_s: float) -> None:
        """Send what was accepted, for at most so many seconds, and close."""
        ...


class Portal:
    """One event loop on one thread, from its first resident to its last.

    Nothing here takes a lock, so a signal handler, or a log handler, may interrupt any line and do the same. What
    several threads change is a deque, a set or a dict, in one atomic step each; where two steps belong together, the
    second one looks again.
    """

    def __init__(self) -> None:
        self._residents: set[Resident] = set()
        self._is_ending = False
        self._is_gone = False
        # Handed over and not run yet: the loop may not exist yet.
        self._handed: deque[Callable[[], object]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        # What threads wait for.
        self._calls: set[ConcurrentFuture[Any]] = set()

    # From any thread

    def admit(self, resident: Resident) -> bool:
        """Let it live here; False if this portal is ending."""
        self._residents.add(resident)
        if self._is_ending:
            self.dismiss(resident)
            return False
        return True

    def dismiss(self, resident: Resident) -> None:
        """Record that it has left. The last one to leave ends the loop, and its thread."""
        self._residents.discard(resident)
        if not self._residents:
            _forget(self)
            self.soon(self._end_if_empty)

    def soon(self, section: Callable[[], object]) -> None:
        """Run a section in the loop, once it turns; never wait for that."""
        self._handed.append(section)
        loop = self._loop
        if loop is not None:  # otherwise the thread finds it when it starts
            with suppress(RuntimeError):  # closed
                loop.call_soon_threadsafe(self._run_handed)

    def later(self, delay_s: float, section: Callable[[], object]) -> None:
        """Run a section in the loop after so many seconds; called in the loop."""
        if self._loop is not None:
            self._loop.call_later(delay_s, section)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop, and return what it returns. Not for the loop's own thread, see `is_current`.

        Raises:
            ClosedError: The loop ended first.
        """
        future: ConcurrentFuture[T] = ConcurrentFuture()
        self._calls.add(future)
        self.soon(lambda: self._begin(coroutine, future))
        if self._is_gone:
            self._strand_calls()
        try:
            return result_of(future)
        except ConcurrentCancelledError:
            coroutine.close()
            raise ClosedError("it was closed meanwhile") from None
        finally:
            self._calls.discard(future)

    @property
    def is_current(self) -> bool:
        """Whether this is the loop's own thread: a call that waits for the loop would wait there for ever."""
        return self._loop is not None and running_loop() is self._loop

    def wait_until_gone(self) -> None:
        """Return once the thread has ended, if it is about to."""
        deadline = monotonic() + GONE_S
        while not self._residents and not self._is_gone and not self.is_current and monotonic() < deadline:
            pause()

    def close(self) -> None:
        """Have everyone leave: the process ends."""
        if self._is_gone or self.is_current:
            return
        with suppress(ClosedError):
            self.run(self._dismiss_all())
        self.wait_until_gone()

    # In the portal's thread

    def run_thread(self) -> None:
        """Run the loop until it is empty. What a callback raises ends neither the loop nor those who wait for it.

        Nothing is imported in this thread. A fork meanwhile would copy the lock of the module that is being imported,
        and the child's own attempt to connect, and its end, would wait for that lock for ever.
        """
        self._loop = loop = asyncio.new_event_loop()
        loop.call_soon(self._run_handed)
        while not self._is_ending:
            try:
                loop.run_forever()
            except BaseException as error:  # noqa: BLE001 -- SystemExit of a callback must not strand those who wait
                logger.error("a callback raised %s in the publisher's thread", type(error).__name__)
        with suppress(BaseException):
            loop.run_until_complete(_cancel_all())
            if has_greenlets_for_threads():
                # The loop's executor, which resolves host names: at exit the process waits for its threads.
                loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        self._is_gone = True
        self._strand_calls()

    def _run_handed(self) -> None:
        for _ in range(len(self._handed)):  # what these hand over waits for the loop's next turn
            self._handed.popleft()()

    def _begin(self, coroutine: Coroutine[Any, Any, T], future: ConcurrentFuture[T]) -> None:
        task = asyncio.ensure_future(coroutine)
        _tasks.add(task)
        task.add_done_callback(lambda done: _settle(done, future))

    def _end_if_empty(self) -> None:
        self._is_ending = True  # first: who is admitted from now on sees it
        if self._residents:
            self._is_ending = False  # that one came before
        elif self._loop is not None:
            self._loop.stop()

    async def _dismiss_all(self) -> None:
        await asyncio.gather(*[one.leave(CLOSE_S) for one in self._residents], return_exceptions=True)

    def _strand_calls(self) -> None:
        """Wake everyone whose call will never be run."""
        for future in list(self._calls):
            future.cancel()


_portals: Final[dict[int, Portal]] = {}
"""By process: a forked child finds none, and leaves its parent's alone."""

_ending: Final[set[int]] = set()
"""Processes that are ending: nothing new starts there."""

_tasks: Final[set[asyncio.Task[Any]]] = set()
"""Of the portals: a loop alone does not keep its tasks alive."""


def enter(resident: Resident) -> Portal:
    """Return this process's portal with the resident admitted; start it if there is none.

    Raises:
        ClosedError: The interpreter is ending, so no thread can be started.
        ConfigurationError: No thread can run here, for another reason.
    """
    while True:
        if os.getpid() in _ending:
            raise ClosedError("the process is ending: what is published now would not be sent")
        new = Portal()
        portal = _portals.setdefault(os.getpid(), new)  # atomic: one of several threads wins, and starts it
        if not portal.admit(resident):
            _forget(portal)
            continue
        if portal is new:
            try:
                start_thread(portal)
            except BaseException:
                _forget(portal)
                raise
            _close_at_end_of_child()
        return portal


def _forget(portal: Portal) -> None:
    """Let nobody new find it."""
    if _portals.get(os.getpid()) is portal:
        _portals.pop(os.getpid(), None)


def _settle(task: asyncio.Task[T], future: ConcurrentFuture[T]) -> None:
    _tasks.discard(task)
    if not future.set_running_or_notify_cancel():
        return
    if task.cancelled():
        future.set_exception(ClosedError("it was closed meanwhile"))
    elif (error := task.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(task.result())


async def _cancel_all() -> None:
    """Cancel the other tasks of this loop, and wait for them."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others)


def _close_portal() -> None:
    """Send what was accepted: the thread would be stopped in the middle of it."""
    _ending.add(os.getpid())
    portal = _portals.get(os.getpid())
    if portal is not None:
        portal.close()


def _close_at_end_of_child() -> None:
    """Make the same true for a child of `multiprocessing`, which ends without `atexit`."""
    process, util = sys.modules.get("multiprocessing.process"), sys.modules.get("multiprocessing.util")
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, _close_portal, exitpriority=0)


atexit.register(_close_portal)
