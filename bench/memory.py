"""Bytes per idle connection with three targets of its own, by `attach` and by `connection()`.

    uv run bench/memory.py [--connections 20000] [--quick] [--json FILE]

Each count is a fresh process: once by the process's resident memory, once by the trace of Python's allocations.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

# Run as a script, this folder is on the path and the one above it is not.
sys.path.insert(0, str(Path(__file__).parents[1]))

import cattrs
from attrs import frozen
from backplane_testservers import BrokerUnavailable, open_own_broker

from bench.figures import print_progress, show, write_json
from bench.findings import Findings, Goal, Plot, Progress
from bench.memory_worker import TARGETS, Hold, Way

__all__ = ["Count", "Counts", "findings", "measure", "measure_sized"]

Place: TypeAlias = Literal["memory", "redis", "nats"]

ROOT: Final = Path(__file__).parents[1]
CONNECTIONS: Final = 20_000
QUICK: Final = 2_000
COUNT_S: Final = 120
WAYS: Final[tuple[Way, ...]] = ("attach", "connection")
TITLES: Final[Mapping[Way, str]] = {"attach": "attach()", "connection": "connection()"}
LIMITS_KIB: Final[Mapping[Way, float]] = {"attach": 2.5, "connection": 4.0}
SUBSCRIPTION_KIB: Final = 2.0
SUBSCRIPTIONS: Final = TARGETS + 1
"""Of each connection under interest routing: its targets, and itself."""
PLACES: Final[Sequence[Place]] = ("memory", "redis", "nats")
PLACE_TITLES: Final[Mapping[Place, str]] = {"memory": "in memory", "redis": "Redis, interest", "nats": "NATS, interest"}

# Whose lines allocate what; the rest is "asyncio and other".
PARTS: Final[Mapping[str, str]] = {
    "_registry.py": "registry",
    "_base.py": "registry",
    "target.py": "targets",
    "connection.py": "queue",
    "memory_worker.py": "waiting to read",
    "_routing.py": "subscriptions",
    "_subscriptions.py": "subscriptions",
    "link.py": "adapter",
    "_internals.py": "adapter",
    "_stream.py": "adapter",
    "_public.py": "adapter",
}
OTHER: Final = "asyncio and other"

FREE_LISTS: Final = """\
Parts are files that allocate. An object that Python hands out again from a free list stays with the line that asked \
for it first, so borders between parts are a little soft; sums are not."""
METHOD: Final = """\
A fresh process holds {connections:,} idle connections, each with a user, an org and a session of its own. \
Everything of the host is made before the count: its sinks (a bound method of a small object each), the text of its \
ids (15 characters) and its own lists. What is counted is what Backplane makes and keeps: targets, attachments, \
queues, subscriptions. A `connection()` is counted while it is waited on in `async for`, without the task that \
waits. Interest routing adds {subscriptions} subscriptions per connection: its targets, and itself. One process is \
counted by its resident memory, another by the trace of Python's allocations; a goal is held against the larger of \
the two."""


@frozen(kw_only=True)
class Count:
    """Bytes per connection.

    Args:
        rss: By the resident memory.
        traced: By Python's allocations.
        files: The latter by the file that allocated.
        lines: The same by line, the largest alone: bytes and blocks.
    """

    rss: float
    traced: float
    files: Mapping[str, float]
    lines: Sequence[tuple[str, float, float]]

    @property
    def most(self) -> float:
        """The larger of the two."""
        return max(self.rss, self.traced)


Counts: TypeAlias = Mapping[tuple[Place, Way], Count]


def measure(progress: Progress, *, quick: bool) -> Findings:
    """Count and return the findings.

    Raises:
        BrokerUnavailable: There is no Redis or no NATS here.
        RuntimeError: A process failed; it has said why.
    """
    return measure_sized(progress, QUICK if quick else CONNECTIONS)


def measure_sized(progress: Progress, connections: int, places: Sequence[Place] = PLACES) -> Findings:
    """Do as `measure` does, with so many connections, in these places."""
    counts: dict[tuple[Place, Way], Count] = {}
    with ExitStack() as stack:
        for place in places:
            url = None if place == "memory" else stack.enter_context(open_own_broker(place)).url
            for way in WAYS:
                progress(f"memory: {connections:,} connections by {TITLES[way]}, {PLACE_TITLES[place]}")
                resident, traced = (_count(way, url, connections, traced=traced) for traced in (False, True))
                counts[place, way] = Count(
                    rss=resident["rss"], traced=traced["traced"], files=dict(traced["files"]), lines=traced["lines"]
                )
    return findings(counts, connections)


def _count(way: Way, url: str | None, connections: int, *, traced: bool) -> dict[str, Any]:
    hold = Hold(way=way, url=url, connections=connections, traced=traced)
    done = subprocess.run(
        [sys.executable, "-m", "bench.memory_worker", json.dumps(cattrs.unstructure(hold))],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        timeout=COUNT_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the process that holds {connections} connections ended with code {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def findings(counts: Counts, connections: int) -> Findings:
    """Return what the counts come to."""
    rows = [
        (f"{TITLES[way]}, {PLACE_TITLES[place]}", _kib(count.traced), _kib(count.rss))
        for (place, way), count in counts.items()
    ]
    goals = [
        Goal(
            what=f"idle connection by {TITLES[way]}, {PLACE_TITLES[place]}",
            wanted=LIMITS_KIB[way],
            found=count.most / 1024,
            spread=(min(count.rss, count.traced) / 1024, count.most / 1024),
            at_least=False,
            unit="KiB",
        )
        for (place, way), count in counts.items()
        if place == "memory"  # elsewhere each has four subscriptions more, which have a goal of their own
    ]
    for place in PLACES:
        if place == "memory" or (place, "attach") not in counts:
            continue
        alone, subscribed = counts["memory", "attach"], counts[place, "attach"]
        traced, rss = (
            (more - less) / SUBSCRIPTIONS
            for more, less in ((subscribed.traced, alone.traced), (subscribed.rss, alone.rss))
        )
        rows.append((f"one subscription, {PLACE_TITLES[place]}", _kib(traced), _kib(rss)))
        goals.append(
            Goal(
                what=f"one subscription, {PLACE_TITLES[place]}",
                wanted=SUBSCRIPTION_KIB,
                found=max(traced, rss) / 1024,
                spread=(min(traced, rss) / 1024, max(traced, rss) / 1024),
                at_least=False,
                unit="KiB",
            )
        )
    return Findings(
        key="memory",
        title="Memory per idle connection",
        method=METHOD.format(connections=connections, subscriptions=SUBSCRIPTIONS),
        columns=("per connection, KiB", "allocations", "resident"),
        rows=rows,
        goals=goals,
        plots=[_plot(counts)],
        notes=[
            f"A subscription's row is what interest routing adds to `attach()` in memory, over {SUBSCRIPTIONS}.",
            FREE_LISTS,
        ],
        raw={
            "connections": connections,
            "counts": {f"{place} {way}": cattrs.unstructure(count) for (place, way), count in counts.items()},
        },
    )


def _plot(counts: Counts) -> Plot:
    series: dict[str, list[tuple[float | str, float]]] = {}
    for part in [*dict.fromkeys(PARTS.values()), OTHER]:
        series[part] = [
            (
                f"{TITLES[way]}, {PLACE_TITLES[place]}",
                sum([size for file, size in count.files.items() if PARTS.get(file, OTHER) == part]) / 1024,
            )
            for (place, way), count in counts.items()
        ]
    return Plot(
        key="memory",
        kind="stacked",
        title="What an idle connection with three targets takes",
        x="KiB",
        y="",
        series=series,
    )


def _kib(size: float) -> str:
    return f"{size / 1024:.2f}"


def _main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:,} connections")
    parser.add_argument("--lines", action="store_true", help="show which lines allocate most")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    arguments = parser.parse_args()
    if arguments.connections < 1:
        parser.error("--connections is at least 1")
    try:
        found = measure_sized(print_progress, QUICK if arguments.quick else arguments.connections)
    except BrokerUnavailable as error:
        sys.exit(str(error))
    print_progress("")
    show(found)
    if arguments.lines:
        for title, count in found.raw["counts"].items():
            print(f"\n{title}")
            for line, size, blocks in count["lines"]:
                print(f"  {size:8.1f} bytes in {blocks:6.3f} blocks  {line}")
    if arguments.json is not None:
        write_json(found, arguments.json)


if __name__ == "__main__":
    _main()
