"""Tries at import whether this Python's tasks take the hand-made awaitable of `own_waiters` for what it is.

It runs the real thing: tasks as `asyncio.Task` makes them, in C or in Python, on a loop of asyncio's own that is closed
when this returns. It takes some 0.2 ms, and leaves nothing behind: no loop, no thread, no socket, and the policy's loop
as it was. Where the import happens within a running loop, as that of a plugin may, the trial has a thread of its own: a
thread runs one loop, and, from Python 3.14 on, one task at a time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from contextvars import ContextVar
from typing import Any, Final

from backplane_core._runtime.loop_binding import running_loop
from backplane_core._runtime.own_waiters import Confirmation, Waiter, WakeQueue

__all__ = ["try_own_waiters"]

TURNS: Final = 8
"""Turns of the loop after which a task that has not ended never will: each of these needs two at most."""

# Those that end the program are not among them.
_ERRORS: Final = (Exception, asyncio.CancelledError)


class TrialError(Exception):
    """A task did another thing than `own_waiters` relies on."""


def try_own_waiters() -> None:
    """Return if tasks take the hand-made awaitable.

    Raises:
        TrialError: They do not.
        Exception: Whatever else went wrong: there may be no such loop here, or no threads.
    """
    errors: list[BaseException] = []
    if running_loop() is None:
        _run(errors)
    else:
        thread = threading.Thread(target=_run, args=[errors], name="backplane-trial")
        thread.start()
        thread.join()
    if errors:
        raise TrialError(f"{type(errors[0]).__name__}: {errors[0]}") from errors[0]


def _run(errors: list[BaseException]) -> None:
    """Run the trial; append what goes wrong, also in tasks that are left behind."""
    try:
        loop = asyncio.SelectorEventLoop()
        try:
            loop.set_exception_handler(lambda _, context: errors.append(TrialError(context["message"])))
            loop.run_until_complete(_try(loop))
        finally:
            loop.close()
    except _ERRORS as error:
        errors.append(error)


async def _try(loop: asyncio.AbstractEventLoop) -> None:
    queue = WakeQueue()
    await _try_waking(queue, {})
    if hasattr(asyncio, "eager_task_factory"):  # Python 3.12
        await _try_waking(queue, {"eager_start": True})
    await _try_cancelling(queue)
    await _try_going_on(queue, loop)


def _task(coroutine: Coroutine[Any, Any, object], **options: Any) -> asyncio.Task[object]:  # noqa: ANN401 -- eager_start, where there is one
    try:
        return asyncio.Task(coroutine, loop=asyncio.get_running_loop(), **options)
    except BaseException:
        coroutine.close()  # it would complain that nobody awaited it
        raise


async def _try_waking(queue: WakeQueue, options: Mapping[str, object]) -> None:
    """Check that tasks go on in the order of the wakes, within one turn, each in its own context, again and again."""
    whose: ContextVar[str] = ContextVar("whose", default="nobody's")
    gone_on: list[str] = []

    async def wait(waiter: Waiter, name: str) -> object:
        whose.set(name)
        await waiter
        gone_on.append(whose.get())
        return await waiter

    waiters = [Waiter(queue) for _ in range(3)]
    tasks = [_task(wait(waiter, str(number)), **options) for number, waiter in enumerate(waiters)]
    await asyncio.sleep(0)
    for _ in range(2):
        _require(all(waiter.waiting for waiter in waiters), "each task waits")
        for waiter in reversed(waiters):
            waiter.wake()
        await asyncio.sleep(0)
    _require(gone_on == ["2", "1", "0"], "tasks go on in order, in their own context")
    _require(whose.get() == "nobody's", "a task's context stays its own")
    for task in tasks:
        _require(await _result(task) is None, "an await has no result")


async def _try_cancelling(queue: WakeQueue) -> None:
    """Check that a task can be cancelled while it waits and once it was woken, with the reason that was given."""
    waiter = Waiter(queue)
    said: list[object] = []

    async def wait() -> None:
        try:
            await waiter
        except asyncio.CancelledError as error:
            said.append(error.args)
            raise

    for woken in (False, True):
        task = _task(wait())
        await asyncio.sleep(0)
        if woken:
            waiter.wake()
        task.cancel("enough")
        await _end(task)
        _require(task.cancelled() and not waiter.waiting, "a task that is cancelled is cancelled")
    _require(said == [("enough",)] * 2, "a task that is cancelled gets the reason")


async def _try_going_on(queue: WakeQueue, loop: asyncio.AbstractEventLoop) -> None:
    """Check that a callback can run a task's next step, to its end."""
    confirmation = Confirmation(queue)
    within: list[bool] = []

    async def wait() -> object:
        return await confirmation

    def give() -> None:
        confirmation.set(answer)
        within.append(task.done())

    answer = True
    task = _task(wait())
    await asyncio.sleep(0)
    loop.call_soon(give)
    _require(await _result(task) is answer and within == [True], "a callback runs a task's step")


async def _end(task: asyncio.Task[object]) -> None:
    """Return once a task has ended; by turns, as awaiting it would hang where it never does."""
    for _ in range(TURNS):
        if task.done():
            return
        await asyncio.sleep(0)
    raise TrialError("a task ends once it was woken")


async def _result(task: asyncio.Task[object]) -> object:
    await _end(task)
    return task.result()


def _require(holds: bool, what: str) -> None:  # noqa: FBT001 -- an assert that -O does not take away
    if not holds:
        raise TrialError(what)
