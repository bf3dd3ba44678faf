"""Find what a test left behind: tasks, sockets, child processes: `no_leftovers`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped]  # it has no py.typed
from attrs import frozen

from backplane_testservers.guard import get_guard_pid
from backplane_testservers.process import get_server_pids

__all__ = ["Snapshot", "no_leftovers"]

_NAMELESS: Final = " ->  NONE"
"""A Unix socket without a path: one of a pair, or a client's."""


@frozen
class Snapshot:
    """What this process holds at one moment. The keys tell things apart, the values describe them."""

    things: Mapping[object, str]

    @classmethod
    def take(cls) -> Snapshot:
        """Take stock of the tasks of the running loop (except the current one), open sockets and child processes.

        Servers that `backplane_testservers` started are left out: they belong to their fixtures.
        """
        return cls({**_tasks(), **_sockets(), **_children()})

    def added_since(self, before: Snapshot) -> list[str]:
        """Return what is here and was not there, described."""
        return sorted(text for key, text in self.things.items() if key not in before.things)


@asynccontextmanager
async def no_leftovers(timeout_s: float = 2.0) -> AsyncGenerator[None]:
    """Assert that the block leaves no task, no socket and no child process behind.

    Args:
        timeout_s: How long things may take to settle after the block, in seconds.

    Raises:
        AssertionError: Something is left; the message names it. Not raised when the block itself raises.
    """
    before = Snapshot.take()
    yield
    deadline = asyncio.get_running_loop().time() + timeout_s
    while left := Snapshot.take().added_since(before):
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"left behind, {timeout_s:g} s after the end:\n  " + "\n  ".join(left))
        # Closing a transport takes a few turns of the loop, and nothing reports the last one.
        await asyncio.sleep(0.005)


def _tasks() -> dict[object, str]:
    try:
        current = asyncio.current_task()
    except RuntimeError:
        return {}
    # Keyed by the task itself: an id() may come back for another one.
    return {task: f"task {task.get_name()}: {task.get_coro()}" for task in asyncio.all_tasks() if task is not current}


def _sockets() -> dict[object, str]:
    described = {
        connection.fd: f"{connection.laddr} -> {connection.raddr} {connection.status}"
        for connection in psutil.Process().net_connections(kind="all")
    }
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        return {("socket", fd, text): f"socket {text}" for fd, text in described.items()}
    found: dict[object, str] = {}
    nameless = 0
    for entry in descriptors.iterdir():
        try:
            link = str(entry.readlink())
        except FileNotFoundError:
            continue  # the descriptor of this listing itself
        # The inode in the link identifies a socket for good, while its descriptor's number is reused at once.
        if link.startswith("socket:"):
            text = described.get(int(entry.name), "unconnected")
            if text == _NAMELESS:
                # Counted, not identified: uvloop makes a new pair for signals each time that it begins to run.
                nameless += 1
                link = f"{_NAMELESS} {nameless}"
            found[link] = f"socket {text}"
    return found


def _children() -> dict[object, str]:
    ours = get_server_pids() | {get_guard_pid()}
    return {
        ("child", child.pid, child.create_time()): f"child process {child.pid} ({child.name()})"
        for child in psutil.Process().children(recursive=True)
        if child.pid not in ours
    }
