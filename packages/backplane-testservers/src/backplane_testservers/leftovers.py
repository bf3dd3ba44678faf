"""Find what a test left behind: tasks, sockets, child processes: `no_leftovers`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped]  # it has no py.typed
from attrs import frozen

from backplane_testservers.guard import get_guard_pid
from backplane_testservers.process import get_server_pids

__all__ = ["Snapshot", "no_leftovers"]

_KERNEL_LISTS_CHILDREN: Final = Path("/proc/thread-self/children").exists()


@frozen
class Snapshot:
    """What this process holds at one moment. The keys tell things apart, the values describe them."""

    things: Mapping[object, str]

    @classmethod
    def take(cls, *, described: bool = False) -> Snapshot:
        """Take stock of the tasks of the running loop (except the current one), open sockets and child processes.

        Servers that `backplane_testservers` started are left out: they belong to their fixtures.

        Args:
            described: Say of each socket where it leads, which takes ten times as long.
        """
        return cls({**_tasks(), **_sockets(described=described), **_children()})

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
    while Snapshot.take().added_since(before):
        if asyncio.get_running_loop().time() > deadline:
            left = Snapshot.take(described=True).added_since(before)
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


def _sockets(*, described: bool) -> dict[object, str]:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        return {("socket", fd, text): f"socket {text}" for fd, text in _connections().items()}
    texts = _connections() if described else {}
    without_path = _unix_sockets_without_path()
    found: dict[object, str] = {}
    nameless = 0
    for descriptor in descriptors.iterdir():
        try:
            link = str(descriptor.readlink())
        except FileNotFoundError:
            continue  # the descriptor of this listing itself
        # The inode in the link identifies a socket for good, while its descriptor's number is reused at once.
        if link.startswith("socket:"):
            text = texts.get(int(descriptor.name), "unconnected")
            if link.removeprefix("socket:[").removesuffix("]") in without_path:
                # Counted, not identified: uvloop makes a new pair for signals each time that it begins to run.
                nameless += 1
                link = f"without a path {nameless}"
            found[link] = f"socket {text}"
    return found


def _connections() -> dict[int, str]:
    return {
        connection.fd: f"{connection.laddr} -> {connection.raddr} {connection.status}"
        for connection in psutil.Process().net_connections(kind="all")
    }


def _unix_sockets_without_path() -> set[str]:
    """Return the inodes of Unix sockets without a path: each is one of a pair, or a client's."""
    _, *rows = Path("/proc/net/unix").read_text().splitlines()
    return {fields[6] for row in rows if len(fields := row.split()) == 7}  # a path would be the eighth


def _children() -> dict[object, str]:
    ours = get_server_pids() | {get_guard_pid()}
    found: dict[object, str] = {}
    for child in _descendants(ours):
        with suppress(psutil.NoSuchProcess):
            found["child", child.pid, child.create_time()] = f"child process {child.pid} ({child.name()})"
    return found


def _descendants(without: set[int | None]) -> Iterator[psutil.Process]:
    """Yield children and theirs, without these; where the kernel lists them, without a look at every process."""
    if not _KERNEL_LISTS_CHILDREN:
        yield from [child for child in psutil.Process().children(recursive=True) if child.pid not in without]
        return
    parents = [os.getpid()]
    while parents:
        for listed in Path(f"/proc/{parents.pop()}/task").glob("*/children"):
            with suppress(OSError, psutil.NoSuchProcess):  # it has ended meanwhile
                for pid in set(map(int, listed.read_text().split())) - without:
                    parents.append(pid)
                    yield psutil.Process(pid)
