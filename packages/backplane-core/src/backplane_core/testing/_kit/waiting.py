"""Waits with a deadline, whose expiry is a `ContractError` that names what was waited for."""

from __future__ import annotations

import asyncio
import gc
import os
import stat
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from backplane_core._runtime.faults import error_location
from backplane_core.errors import TransportError
from backplane_core.testing.harness import ContractError, Harness

__all__ = [
    "expect_end",
    "expect_nothing_left",
    "expect_refusal",
    "expect_return",
    "outage",
    "run_together",
    "run_within_deadline",
    "wait_until",
]

T = TypeVar("T")

DEADLINE_S = 10.0
"""Seconds that a check waits for one thing. A broker answers in milliseconds; the rest is for a starved machine."""

ABANDON_S: Final = 0.5
"""Seconds that a call which did not return gets to be cancelled in: it may swallow that too."""


async def run_within_deadline(call: Coroutine[Any, Any, T], what: str, look_at: str) -> T:
    """Return what the call returns, raise what it raises.

    Raises:
        ContractError: It did neither within the deadline.
    """
    task = asyncio.create_task(call, name=f"contract check: {what}")
    try:
        await asyncio.wait({task}, timeout=DEADLINE_S)
        if not task.done():
            raise ContractError(f"{what} ends within {DEADLINE_S:g} s", "it was still waiting", look_at)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=ABANDON_S)
    return task.result()


async def expect_return(call: Coroutine[Any, Any, T], what: str, look_at: str) -> T:
    """Return what the call returns.

    Raises:
        ContractError: It raised, or did not return within the deadline.
    """
    try:
        return await run_within_deadline(call, what, look_at)
    except ContractError:
        raise
    except TransportError as error:
        raise ContractError(f"{what} returns", f"TransportError: {error}", look_at) from error
    except Exception as error:
        raise _foreign_error(what, error, look_at) from error


async def expect_end(call: Coroutine[Any, Any, object], what: str, look_at: str) -> TransportError | None:
    """Return the `TransportError` that the call raised, or None if it returned: both are allowed.

    Raises:
        ContractError: It raised another error, or did neither within the deadline.
    """
    try:
        await run_within_deadline(call, what, look_at)
    except TransportError as error:
        return error
    except ContractError:
        raise
    except Exception as error:
        raise _foreign_error(what, error, look_at) from error
    return None


async def expect_refusal(call: Coroutine[Any, Any, object], what: str, look_at: str) -> TransportError:
    """Return the `TransportError` that the call raises.

    Raises:
        ContractError: It returned, raised another error, or did neither within the deadline.
    """
    error = await expect_end(call, what, look_at)
    if error is None:
        raise ContractError(f"{what} raises TransportError", "it returned as if the link were live", look_at)
    return error


def _foreign_error(what: str, error: Exception, look_at: str) -> ContractError:
    return ContractError(f"{what} raises nothing but TransportError", f"{error_location(error)}: {error}", look_at)


async def run_together(*calls: Coroutine[Any, Any, object]) -> None:
    """Run these calls at the same time, each to its end; then raise the first error, unless one is being raised."""
    tasks = [asyncio.create_task(call, name="contract check") for call in calls]
    try:
        if tasks:
            await asyncio.wait(tasks)
    finally:
        for task in tasks:
            task.cancel()
    errors = [error for task in tasks if (error := task.exception()) is not None]
    if errors and sys.exception() is None:
        raise errors[0]


async def wait_until(condition: Callable[[], bool], what: str, got: Callable[[], str], look_at: str) -> None:
    """Return once the condition holds.

    Raises:
        ContractError: It did not within the deadline; `got` says how things stand.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DEADLINE_S
    while not condition():
        if loop.time() > deadline:
            raise ContractError(f"{what} within {DEADLINE_S:g} s", got(), look_at)
        await asyncio.sleep(0.001)


@asynccontextmanager
async def expect_nothing_left(what: str, look_at: str) -> AsyncGenerator[None]:
    """Fail if the block leaves more tasks or sockets than there were before, or an unhandled error.

    It does not when the block raises. Tasks and sockets are counted, not compared, since a harness that restarts a
    broker in this process replaces old ones by new ones.
    """
    gc.collect()  # this block is not blamed for what others left
    tasks, sockets = asyncio.all_tasks(), _sockets()

    def left() -> str:
        now = [task for task in asyncio.all_tasks() if not task.done()]
        added = [f"task {task.get_name()} ({task.get_coro()})" for task in now if task not in tasks]
        open_now = _sockets()
        return ", ".join(
            [
                *(added if len(now) > len(tasks) else ()),
                *([f"{len(open_now) - len(sockets)} sockets"] if len(open_now) > len(sockets) else ()),
            ]
        )

    with _unhandled_errors() as unhandled:
        yield
        await wait_until(lambda: not left(), f"{what} leaves no task and no socket", left, look_at)
        gc.collect()
    if unhandled:
        raise ContractError(f"{what} leaves no unhandled error", ", ".join(unhandled), look_at)


@contextmanager
def _unhandled_errors() -> Generator[list[str]]:
    """Collect the errors of tasks and futures that nobody retrieved before asyncio dropped them."""
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    unhandled: list[str] = []

    def collect(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if "never retrieved" in context.get("message", ""):
            unhandled.append(f"{context['message']}: {context.get('exception')!r}")
        elif handler is not None:
            handler(loop, context)
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(collect)
    try:
        yield unhandled
    finally:
        loop.set_exception_handler(handler)


@asynccontextmanager
async def outage(harness: Harness) -> AsyncGenerator[None]:
    """Cut the broker for the length of the block, or until `harness.restore()` is called in it."""
    try:
        await run_within_deadline(harness.cut(), "Harness.cut()", "the harness")
        yield
    finally:
        await run_within_deadline(harness.restore(), "Harness.restore()", "the harness")


def _sockets() -> frozenset[int]:
    """Return the inodes of this process's sockets; none where the system has no /dev/fd."""
    found: set[int] = set()
    directory = Path("/dev/fd")
    for descriptor in directory.iterdir() if directory.is_dir() else ():
        try:
            status = os.fstat(int(descriptor.name))
        except OSError:
            continue  # the descriptor of this listing itself
        if stat.S_ISSOCK(status.st_mode):
            found.add(status.st_ino)
    return frozenset(found)
