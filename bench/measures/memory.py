"""Bytes per idle connection with three targets of its own, by `attach` and by `connection()`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack
from typing import ClassVar, Final, Literal, TypeAlias

from attrs import frozen
from backplane_testservers import open_own_broker

from bench.findings import Findings, Goal, Plot
from bench.measure import BUSES, Measure, Progress, option
from bench.processes import ask
from bench.workers.memory import TARGETS, Hold, Way

__all__ = ["Count", "Figures", "Memory"]

Place: TypeAlias = Literal["memory", "redis", "nats"]

_TITLES: Final[Mapping[Way, str]] = {"attach": "attach()", "connection": "connection()"}
_PLACES: Final[Mapping[Place, str]] = {"memory": "in memory", "redis": "Redis, interest", "nats": "NATS, interest"}
_LIMITS_KIB: Final[Mapping[Way, float]] = {"attach": 2.5, "connection": 4.0}
_SUBSCRIPTION_KIB: Final = 2.0
_SUBSCRIPTIONS: Final = TARGETS + 1
"""Of each connection under interest routing: its targets, and itself."""

# What is part of a file's "folder/name.py"; the rest is "asyncio and other".
_PARTS: Final = (
    ("_local/", "registry"),
    ("backplane_core/base.py", "registry"),
    ("backplane_core/target.py", "targets"),
    ("backplane_core/connection.py", "queue"),
    ("workers/memory.py", "waiting to read"),
    ("_protocol/", "subscriptions"),
    ("_inbound/", "subscriptions"),
    ("backplane_redis/", "adapter"),
    ("backplane_nats/", "adapter"),
)
_OTHER: Final = "asyncio and other"

_METHOD: Final = """\
A fresh process holds {connections:,} idle connections, each with a user, an org and a session of its own. Everything
of the host is made before the count: its sinks (a bound method of a small object each), the text of its ids (15
characters) and its own lists. What is counted is what Backplane makes and keeps: targets, attachments, queues,
subscriptions. A `connection()` is counted while it is waited on in `async for`, without the task that waits. Interest
routing adds {subscriptions} subscriptions per connection: its targets, and itself. One process is counted by its
resident memory, another by the trace of Python's allocations; a goal is held against the larger of the two."""
_NOTES: Final = [
    f"A subscription's row is what interest routing adds to `attach()` in memory, over {_SUBSCRIPTIONS}.",
    """Parts are files that allocate. An object that Python hands out again from a free list stays with the line that
asked for it first, so borders between parts are a little soft; sums are not.""",
]


@frozen(kw_only=True)
class Count:
    """Bytes per connection."""

    rss: float  # by the resident memory
    traced: float  # by Python's allocations
    files: Mapping[str, float]  # the latter by the file that allocated

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
        return Count(rss=resident["rss"], traced=traced["traced"], files=traced["files"])

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
            plots=[_plot(counts)],
            notes=_NOTES,
        )


def _subscription(alone: Count, subscribed: Count) -> Count:
    return Count(
        rss=(subscribed.rss - alone.rss) / _SUBSCRIPTIONS,
        traced=(subscribed.traced - alone.traced) / _SUBSCRIPTIONS,
        files={},
    )


def _goal(what: str, wanted: float, count: Count) -> Goal:
    least, most = count.edges_kib
    return Goal.most(what, wanted, (most, least, most), "KiB")


def _part(file: str) -> str:
    return next((part for piece, part in _PARTS if piece in file), _OTHER)


def _plot(counts: Mapping[str, Count]) -> Plot:
    bars: dict[str, dict[str, float]] = {}
    for title, count in counts.items():
        bars[title] = dict.fromkeys([*[part for _, part in _PARTS], _OTHER], 0.0)
        for file, size in count.files.items():
            bars[title][_part(file)] += size / 1024
    return Plot.stacked("memory", "What an idle connection with three targets takes", "KiB", bars)


def _kib(size: float) -> str:
    return f"{size / 1024:.2f}"
