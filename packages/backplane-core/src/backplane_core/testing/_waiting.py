"""Waits with a deadline, whose expiry is a `ContractError` that names what was waited for."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

from attrs import frozen

from backplane_core._tasks import where
from backplane_core.errors import TransportError
from backplane_core.testing._harness import ContractError

__all__ = ["Leftovers", "refused", "returned", "until", "within"]

T = TypeVar("T")

DEADLINE_S = 10.0
"""How long a check waits for one thing: an answer takes milliseconds; the rest is for a machine starved of CPU."""

ABANDON_S: Final = 0.5
"""What a call that did not return gets to be cancelled: it may swallow that too."""


async def within(call: Coroutine[Any, Any, T], what: str, look_at: str) -> T:
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


async def refused(call: Coroutine[Any, Any, object], what: str, look_at: str) -> TransportError:
    """Return the `TransportError` that the call raises.

    Raises:
        ContractError: It returned, raised another error, or did neither within the deadline.
    """
    try:
        await within(call, what, look_at)
    except TransportError as error:
        return error
    except ContractError:
        raise
    except Exception as error:
        raise _foreign(what, error, look_at) from error
    raise ContractError(f"{what} raises TransportError", "it returned as if all were well", look_at)


def _foreign(what: str, error: Exception, look_at: str) -> ContractError:
    return ContractError(f"{what} raises nothing but TransportError", f"{where(error)}: {error}", look_at)


async def until(condition: Callable[[], bool], what: str, got: Callable[[], str], look_at: str) -> None:
    """Return once the condition holds.

    Raises:
        ContractError: It did not within the deadline; `got` says how things stand then.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DEADLINE_S
    while not condition():
        if loop.time() > deadline:
            raise ContractError(f"{what} within {DEADLINE_S:g} s", got(), look_at)
        await asyncio.sleep(0.001)


@frozen
class Leftovers:
    """The tasks and sockets of one moment, to be compared with those of a later one."""

    tasks: frozenset[asyncio.Task[Any]]
    sockets: frozenset[int]

    @classmethod
    def now(cls) -> Leftovers:
        """Look at the running loop and at this process."""
        return cls(frozenset(asyncio.all_tasks()), _sockets())

    async def gone(self, what: str, look_at: str) -> None:
        """Return once nothing is here that was not there at that moment.

        Raises:
            ContractError: Something still is at the deadline.
        """
        await until(lambda: not self._added(), f"{what} leaves no task and no socket", self._added, look_at)

    def _added(self) -> str:
        now = Leftovers.now()
        tasks = [f"task {task.get_name()} ({task.get_coro()})" for task in now.tasks - self.tasks if not task.done()]
        sockets = [f"socket (inode {inode})" for inode in now.sockets - self.sockets]
        return ", ".join(tasks + sockets)


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
