"""Bytes per idle connection with three targets of its own, by `attach` and by `connection()`."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack
from typing import Any, ClassVar, Final, Literal, TypeAlias

import psutil  # type: ignore[import-untyped]
from attrs import frozen
from backplane_core import Attachment, BaseBackplane, Connection, InMemoryBackplane, Target, connect
from backplane_testservers import open_own_broker

from bench.findings import Findings, Goal
from bench.measure import BUSES, Measure, Progress, option
from bench.processes import ask
from bench.workers.worker import Worker, say

__all__ = ["TARGETS", "WORKER", "Count", "Figures", "Hold", "Memory", "Way"]

Way: TypeAlias = Literal["attach", "connection"]

TARGETS: Final = 3
"""Of each connection: a user, an org and a session, which no other connection has."""
_AT_ONCE: Final = 500
"""How many connections arrive together, so that a broker's round trip is shared as in a busy service."""
_WARM: Final = 20
"""Few: what they leave free is reused, and so not counted as resident."""
_SETTLE_S: Final = 0.2

Place: TypeAlias = Literal["memory", "redis", "nats"]

_TITLES: Final[Mapping[Way, str]] = {"attach": "attach()", "connection": "connection()"}
_PLACES: Final[Mapping[Place, str]] = {"memory": "in memory", "redis": "Redis, interest", "nats": "NATS, interest"}
_LIMITS_KIB: Final[Mapping[Way, float]] = {"attach": 2.5, "connection": 4.0}
_SUBSCRIPTION_KIB: Final = 2.0
_SUBSCRIPTIONS: Final = TARGETS + 1
"""Of each connection under interest routing: its targets, and itself."""

_METHOD: Final = """\
A fresh process holds {connections:,} idle connections, each with a user, an org and a session of its own. Everything
of the host is made before the count: its sinks (a bound method of a small object each), the text of its ids (15
characters) and its own lists. What is counted is what Backplane makes and keeps: targets, attachments, queues,
subscriptions. A `connection()` is counted while it is waited on in `async for`, without the task that waits. Interest
routing adds {subscriptions} subscriptions per connection: its targets, and itself. One process is counted by its
resident memory, another by the trace of Python's allocations; a goal is held against the larger of the two."""
_NOTE: Final = f"A subscription's row is what interest routing adds to `attach()` in memory, over {_SUBSCRIPTIONS}."


@frozen(kw_only=True)
class Count:
    """Bytes per connection."""

    rss: float  # by the resident memory
    traced: float  # by Python's allocations

    @property
    def edges_kib(self) -> tuple[float, float]:
        """The smaller and the larger of the two."""
        return min(self.rss, self.traced) / 1024, max(self.rss, self.traced) / 1024


@frozen(kw_only=True)
class Figures:
    """What is measured."""

    connections: int  # how many were held
    counts: Mapping[Place, Mapping[Way, Count]]  # by place and way


@frozen(kw_only=True)
class Memory(Measure[Figures]):
    """Bytes per idle connection with three targets of its own, by `attach` and by `connection()`."""

    name: ClassVar = "memory"
    title: ClassVar = "Memory per idle connection"
    figures: ClassVar = Figures
    quick: ClassVar = {"connections": 2_000}
    usual_s: ClassVar = 70

    connections: int = option(20_000, "how many are held")
    bus: str = option("both", "which broker, for interest routing", BUSES)

    def measure(self, progress: Progress) -> Figures:
        """Count, each in a process of its own."""
        places: list[Place] = ["memory", *BUSES[self.bus]]
        progress.expect(len(places) * len(_TITLES))
        counts: dict[Place, dict[Way, Count]] = {}
        with ExitStack() as stack:
            for place in places:
                url = None if place == "memory" else stack.enter_context(open_own_broker(place)).url
                counts[place] = {}
                for way, title in _TITLES.items():
                    progress.step(f"{title}, {_PLACES[place]}")
                    counts[place][way] = asyncio.run(self._count(way, url))
        return Figures(connections=self.connections, counts=counts)

    async def _count(self, way: Way, url: str | None) -> Count:
        resident, traced = [
            await ask("memory", "hold", Hold(way=way, url=url, connections=self.connections, traced=traced))
            for traced in (False, True)
        ]
        return Count(rss=resident["rss"], traced=traced["traced"])

    @classmethod
    def findings(cls, figures: Figures) -> Findings:
        """Return what the counts come to."""
        counts = {
            f"{_TITLES[way]}, {_PLACES[place]}": count
            for place, ways in figures.counts.items()
            for way, count in ways.items()
        }
        rows = [(title, _kib(count.traced), _kib(count.rss)) for title, count in counts.items()]
        # With a broker each has four subscriptions more, which have a goal of their own.
        alone = figures.counts["memory"]
        goals = [
            _goal(f"idle connection by {_TITLES[way]}, in memory", _LIMITS_KIB[way], count)
            for way, count in alone.items()
        ]
        for place, ways in figures.counts.items():
            if place != "memory":
                one = _subscription(alone["attach"], ways["attach"])
                rows.append((f"one subscription, {_PLACES[place]}", _kib(one.traced), _kib(one.rss)))
                goals.append(_goal(f"one subscription, {_PLACES[place]}", _SUBSCRIPTION_KIB, one))
        return Findings(
            method=_METHOD.format(connections=figures.connections, subscriptions=_SUBSCRIPTIONS),
            columns=("per connection, KiB", "allocations", "resident"),
            rows=rows,
            goals=goals,
            notes=[_NOTE],
        )


def _subscription(alone: Count, subscribed: Count) -> Count:
    return Count(
        rss=(subscribed.rss - alone.rss) / _SUBSCRIPTIONS,
        traced=(subscribed.traced - alone.traced) / _SUBSCRIPTIONS,
    )


def _goal(what: str, wanted: float, count: Count) -> Goal:
    least, most = count.edges_kib
    return Goal.most(what, wanted, (most, least, most), "KiB")


def _kib(size: float) -> str:
    return f"{size / 1024:.2f}"


# The process


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


async def _count(hold: Hold, pod: BaseBackplane) -> dict[str, float]:
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
    found = {"rss": (process.memory_info().rss - before) / hold.connections}
    if hold.traced:
        found["traced"] = tracemalloc.get_traced_memory()[0] / hold.connections
        tracemalloc.stop()
    assert pod.connection_count == hold.connections
    assert pod.stats().targets == hold.connections * TARGETS
    for reading in filter(None, readings):
        reading.close()
    return found


async def _hold(hold: Hold) -> None:
    async with InMemoryBackplane() if hold.url is None else connect(hold.url, routing="interest") as pod:
        say("done", **await _count(hold, pod))


WORKER: Final = Worker(Hold, {"hold": _hold})
