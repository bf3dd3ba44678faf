"""One count of the bytes that idle connections take.

Everything that is the host's is made before the count starts: its sinks, its ids, its lists. Counted is what Backplane
makes and keeps: targets, attachments, queues, subscriptions. An id's text is the host's, unless Backplane copies it.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import psutil  # type: ignore[import-untyped]
from attrs import frozen
from backplane_core import Attachment, BaseBackplane, Connection, InMemoryBackplane, Target, connect

from bench.workers.worker import Worker, say

__all__ = ["TARGETS", "WORKER", "Hold", "Way"]

Way: TypeAlias = Literal["attach", "connection"]

TARGETS: Final = 3
"""Of each connection: a user, an org and a session, which no other connection has."""
_AT_ONCE: Final = 500
"""How many connections arrive together, so that a broker's round trip is shared as in a busy service."""
_WARM: Final = 20
"""Few: what they leave free is reused, and so not counted as resident."""
_GENERATED: Final = "<attrs generated methods backplane_core.target.Target>"
_SETTLE_S: Final = 0.2


@frozen(kw_only=True)
class Hold:
    """What one process holds, and how it counts."""

    way: Way  # `attach` with a raw sink, or `connection()` that a task waits on
    url: str | None  # of the broker, for interest routing; None: the in-memory backplane
    connections: int  # how many
    traced: bool  # whether Python's allocations are traced; else the process's resident memory is read


class _Host:
    """A socket of the host: its sink is a bound method, as people write it."""

    __slots__ = ("got",)

    def __init__(self) -> None:
        self.got = 0

    def send(self, data: bytes) -> None:
        self.got += len(data)


@frozen
class _Client:
    """What the host knows of one client before Backplane is asked for anything."""

    conn_id: str
    user: str
    org: str
    session: str
    sink: Callable[[bytes], None]

    @property
    def targets(self) -> tuple[Target, Target, Target]:
        return Target.user(self.user), Target.org(self.org), Target.session(self.session)


def _client(number: int) -> _Client:
    conn_id, user, org, session = (f"{kind}-{number:010}" for kind in ("conn", "user", "corp", "sess"))
    return _Client(conn_id, user, org, session, _Host().send)


async def _attach(pod: BaseBackplane, client: _Client) -> tuple[Attachment, None]:
    attachment = await pod.attach(client.conn_id, client.sink, raw=True)
    for target in client.targets:
        await pod.associate(client.conn_id, target)
    return attachment, None


async def _connection(pod: BaseBackplane, client: _Client) -> tuple[Connection, Any]:
    connection = await pod.connection(client.conn_id, *client.targets).__aenter__()
    # As far as the host's task would drive it, without the task: that is the host's.
    reading: Any = connection.__anext__()
    reading.send(None)
    return connection, reading


_WAYS: Final[dict[Way, Callable[[BaseBackplane, _Client], Coroutine[Any, Any, tuple[Any, Any]]]]] = {
    "attach": _attach,
    "connection": _connection,
}


async def _warm(hold: Hold, pod: BaseBackplane) -> None:
    """Make caches, lazy imports and the loop's own buffers; leave no connection."""
    clients = [_client(-1 - number) for number in range(_WARM)]
    held = await asyncio.gather(*[_WAYS[hold.way](pod, client) for client in clients])
    for client in clients:
        await pod.detach(client.conn_id)
    for _, reading in held:
        if reading is not None:
            reading.close()


async def _count(hold: Hold, pod: BaseBackplane) -> dict[str, Any]:
    await _warm(hold, pod)
    way, clients = _WAYS[hold.way], [_client(number) for number in range(hold.connections)]
    # Two lists, so that no tuple of ours is counted.
    held: list[Any] = [None] * hold.connections
    readings: list[Any] = [None] * hold.connections
    process = psutil.Process()
    gc.collect()
    if hold.traced:
        tracemalloc.start()
    before = process.memory_info().rss
    for start in range(0, hold.connections, _AT_ONCE):
        chunk = clients[start : start + _AT_ONCE]
        for number, (one, reading) in enumerate(await asyncio.gather(*[way(pod, client) for client in chunk]), start):
            held[number], readings[number] = one, reading
    # What was sent and confirmed, and the tasks that did it, are no part of an idle pod.
    await asyncio.sleep(_SETTLE_S)
    gc.collect()
    found: dict[str, Any] = {"rss": (process.memory_info().rss - before) / hold.connections}
    if hold.traced:
        found = _traced(hold.connections)
    assert pod.connection_count == hold.connections
    assert pod.stats().targets == hold.connections * TARGETS
    for reading in filter(None, readings):
        reading.close()
    return found


def _traced(connections: int) -> dict[str, Any]:
    snapshot = tracemalloc.take_snapshot()
    tracemalloc.stop()
    files: dict[str, float] = {}
    for one in snapshot.statistics("filename"):
        # What attrs generates for targets is theirs.
        path = Path(one.traceback[0].filename.replace(_GENERATED, "backplane_core/target.py"))
        name = "/".join(path.parts[-2:])
        files[name] = files.get(name, 0.0) + one.size / connections
    return {"traced": sum(files.values()), "files": files}


async def _hold(hold: Hold) -> None:
    async with InMemoryBackplane() if hold.url is None else connect(hold.url, routing="interest") as pod:
        say("done", **await _count(hold, pod))


WORKER: Final = Worker(Hold, {"hold": _hold})
