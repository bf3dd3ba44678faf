"""How soon a pod knows who is present: a snapshot of many on several pods, and how many joins a second it follows."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from contextlib import AsyncExitStack, aclosing
from statistics import median
from time import perf_counter
from typing import ClassVar, Final

from attrs import frozen
from backplane_core import BaseBackplane, PresenceSnapshot, Target, connect
from backplane_testservers import Kind, open_broker

from bench.findings import Findings
from bench.libraries import library
from bench.measure import BUSES, NAMES, Measure, Progress, option

__all__ = ["Figures", "Presence"]

_ROOM: Final = Target("room", "42")

_METHOD: Final = """\
{pods} pods in one process hold {present:,} connections that are present in one room, each under a key of its own with
a name. Another pod asks for all of them (`fleet.presence`), then watches the room, and one of the {pods} attaches
{joins:,} connections one after the other: joins a second are those that the watch yields, from the first attach to the
last join. Each figure is the median of {rounds} rounds. All pods share one core with each other.

Neither python-socketio nor Channels has presence. A room of python-socketio is in the memory of one server
(`enter_room`), and no other server learns who is in it: there is nothing to measure. A group of channels_redis is a key
in Redis, which no call reads back and whose joins nobody hears of; `group_add`, one after the other, is the nearest to
a join that it has."""


@frozen(kw_only=True)
class Round:
    """One broker."""

    snapshot_ms: float  # until all are known
    joins_per_s: float


@frozen(kw_only=True)
class Figures:
    """What is measured, by broker."""

    group_adds_per_s: float | None  # of channels_redis
    pods: int
    present: int
    joins: int
    rounds: int
    by_bus: Mapping[Kind, Round]


@frozen(kw_only=True)
class Presence(Measure[Figures]):
    """How soon a pod knows who is present, and how many joins a second it follows."""

    name: ClassVar = "presence"
    title: ClassVar = "Presence"
    figures: ClassVar = Figures
    quick: ClassVar = {"present": 1_000, "joins": 500, "rounds": 1}
    usual_s: ClassVar = 40

    pods: int = option(10, "that hold the connections")
    present: int = option(10_000, "connections before anyone asks")
    joins: int = option(5_000, "connections that come under watch")
    rounds: int = option(3, "of each broker")
    bus: str = option("both", "which broker", BUSES)
    peers: str = option("yes", "whether channels_redis takes its turns", ("yes", "no"))

    def measure(self, progress: Progress) -> Figures:
        """Measure one broker after the other."""
        asks_peers = self.peers == "yes" and "redis" in BUSES[self.bus]
        progress.expect((len(BUSES[self.bus]) + asks_peers) * self.rounds)
        group_adds: list[float] = []
        found: dict[Kind, Round] = {}
        for bus in BUSES[self.bus]:
            with open_broker(bus) as broker:
                rounds: list[Round] = []
                for number in range(self.rounds):
                    progress.step(f"{NAMES[bus]}, round {number + 1} of {self.rounds}")
                    rounds.append(asyncio.run(self._round(broker.url)))
                    if asks_peers and bus == "redis":
                        progress.step(f"channels_redis, round {number + 1} of {self.rounds}")
                        group_adds.append(asyncio.run(self._group_adds(broker.url)))
            found[bus] = Round(
                snapshot_ms=median([one.snapshot_ms for one in rounds]),
                joins_per_s=median([one.joins_per_s for one in rounds]),
            )
        return Figures(
            group_adds_per_s=median(group_adds) if group_adds else None,
            pods=self.pods,
            present=self.present,
            joins=self.joins,
            rounds=self.rounds,
            by_bus=found,
        )

    async def _round(self, url: str) -> Round:
        channel = f"bench:{uuid.uuid4().hex}"
        async with AsyncExitStack() as stack:
            pods = [await stack.enter_async_context(connect(url, channel=channel)) for _ in range(self.pods + 1)]
            asker, *others = pods
            for number in range(self.present):
                await _join(others[number % self.pods], f"c{number}")
            await asker.fleet.pods()  # all are known from here on
            begun = perf_counter()
            while len((await asker.fleet.presence(_ROOM, timeout_s=30)).present) < self.present:
                pass
            snapshot_s = perf_counter() - begun
            return Round(snapshot_ms=1000 * snapshot_s, joins_per_s=self.joins / await self._joining(asker, others[0]))

    async def _joining(self, watcher: BaseBackplane, pod: BaseBackplane) -> float:
        """Return how many seconds the joins take, until the watch has yielded each."""
        async with aclosing(watcher.fleet.watch(_ROOM)) as changes:
            known: set[str] = set()
            while len(known) < self.present:
                snapshot = await anext(changes)
                known = {*snapshot.present} if isinstance(snapshot, PresenceSnapshot) else known
            begun = perf_counter()
            joining = asyncio.create_task(self._join_all(pod))
            seen = 0
            while seen < self.joins:
                change = await anext(changes)
                seen = len(change.present) - self.present if isinstance(change, PresenceSnapshot) else seen + 1
            await joining
            return perf_counter() - begun

    async def _join_all(self, pod: BaseBackplane) -> None:
        for number in range(self.joins):
            await _join(pod, f"new-{number}")
            await asyncio.sleep(0)

    async def _group_adds(self, url: str) -> float:
        """Return how many members a second a layer of channels_redis adds to a group."""
        layer = library("channels_redis.core").RedisChannelLayer(hosts=[url], prefix=f"bench-{uuid.uuid4().hex}")
        begun = perf_counter()
        for number in range(self.joins):
            await layer.group_add("room", f"specific.{number}")
        took = perf_counter() - begun
        await layer.flush()
        await layer.close_pools()
        return self.joins / took

    @classmethod
    def findings(cls, figures: Figures) -> Findings:
        """Return the table."""
        rows = [
            (NAMES[bus], f"{one.snapshot_ms:,.0f}", f"{one.joins_per_s:,.0f}") for bus, one in figures.by_bus.items()
        ]
        if figures.group_adds_per_s is not None:
            rows.append(("channels_redis, `group_add`", "none", f"{figures.group_adds_per_s:,.0f}, unheard"))
        return Findings(
            method=_METHOD.format(
                pods=figures.pods, present=figures.present, joins=figures.joins, rounds=figures.rounds
            ),
            columns=("", f"snapshot of {figures.present:,}, ms", "joins a second"),
            rows=rows,
        )


async def _join(pod: BaseBackplane, conn_id: str) -> None:
    await pod.attach(conn_id, _ignore, presence={"name": "Ada Lovelace"})
    pod.associate_nowait(conn_id, _ROOM)


def _ignore(_: object) -> None:
    pass
