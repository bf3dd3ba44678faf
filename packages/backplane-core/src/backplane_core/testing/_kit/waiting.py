"""Waits with a deadline that raise a `ContractError` naming what they waited for."""

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

__all__ = ["all_of", "ended", "leaves_nothing", "outage", "refused", "returned", "until", "within"]

T = TypeVar("T")

DEADLINE_S = 10.0
"""How long a check waits for one thing. An answer takes milliseconds; the rest is for a machine starved of CPU."""

ABANDON_S: Final = 0.5
"""How long a call that did not return gets to be cancelled: it may swallow that too."""


async def within(call: Coroutine[Any, Any, T], what: str, look_at: str) -> T:
    """Return what the call returns, or raise what it raises.

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


async def returned(call: Coroutine[Any, Any, T], what: str, look_at: str) -> T:
    """Return what the call returns.

    Raises:
        ContractError: It raised, or did not return within the deadline.
    """
    try:
        return await within(call, what, look_at)
    except ContractError:
        raise
    except TransportError as error:
        raise ContractError(f"{what} returns", f"TransportError: {error}", look_at) from error
    except Exception as error:
        raise _foreign(what, error, look_at) from error


async def ended(call: Coroutine[Any, Any, object], what: str, look_at: str) -> TransportError | None:
    """Return the `TransportError` that the call raised, or None if it returned: either is right.

    Raises:
        ContractError: It raised another error, or did neither within the deadline.
    """
    try:
        await within(call, what, look_at)
    except TransportError as error:
        return error
    except ContractError:
        raise
    except Exception as error:
        raise _foreign(what, error, look_at) from error
    return None


async def refused(call: Coroutine[Any, Any, object], what: str, look_at: str) -> TransportError:
    """Return the `TransportError` that the call raises.

    Raises:
        ContractError: It returned, raised another error, or did neither within the deadline.
    """
    error = await ended(call, what, look_at)
    if error is None:
        raise ContractError(f"{what} raises TransportError", "it returned as if nothing had happened", look_at)
    return error


def _foreign(what: str, error: Exception, look_at: str) -> ContractError:
    return ContractError(f"{what} raises nothing but TransportError", f"{error_location(error)}: {error}", look_at)


async def all_of(*calls: Coroutine[Any, Any, object]) -> None:
    """Run all of these concurrently, each to its end; then raise the first error, unless one is already propagating."""
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


async def until(condition: Callable[[], bool], what: str, got: Callable[[], str], look_at: str) -> None:
    """Return once the condition holds.

    Raises:
        ContractError: It did not hold within the deadline; `got` describes the state then.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DEADLINE_S
    while not condition():
        if loop.time() > deadline:
            raise ContractError(f"{what} within {DEADLINE_S:g} s", got(), look_at)
        await asyncio.sleep(0.001)


@asynccontextmanager
async def leaves_nothing(what: str, look_at: str) -> AsyncGenerator[None]:
    """Fail if the block leaves more tasks or sockets than there were, or an error that nobody retrieved.

    It does not fail when the block itself raises. Tasks and sockets are counted, not compared, since a harness that
    restarts a broker inside this process replaces old ones by new ones.
    """
    gc.collect()  # so that this block is not blamed for what others left
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

    with _unheard_errors() as unheard:
        yield
        await until(lambda: not left(), f"{what} leaves no task and no socket", left, look_at)
        gc.collect()
    if unheard:
        raise ContractError(f"{what} leaves no error that nobody retrieved", ", ".join(unheard), look_at)


@contextmanager
def _unheard_errors() -> Generator[list[str]]:
    """Collect the errors that asyncio finds in tasks and futures when it discards them."""
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    unheard: list[str] = []

    def hear(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if "never retrieved" in context.get("message", ""):
            unheard.append(f"{context['message']}: {context.get('exception')!r}")
        elif handler is not None:
            handler(loop, context)
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(hear)
    try:
        yield unheard
    finally:
        loop.set_exception_handler(handler)


@asynccontextmanager
async def outage(harness: Harness) -> AsyncGenerator[None]:
    """Cut the broker for the duration of the block, or until `harness.restore()` is called in it."""
    try:
        await within(harness.cut(), "Harness.cut()", "the harness")
        yield
    finally:
        await within(harness.restore(), "Harness.restore()", "the harness")


def _sockets() -> frozenset[int]:
    """Return the inodes of this process's sockets; none if the system has no /dev/fd."""
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
