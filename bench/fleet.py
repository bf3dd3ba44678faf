"""What one event costs a whole fleet of 1, 2, 4 ... 32 pods, when it is for one pod's user.

    uv run --group bench bench/fleet.py [--rounds 2] [--pods 1 2 4 8 16 32] [--quick] [--json FILE]

Processor time is summed over all processes. Without the group `bench` python-socketio is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, Final, TypeAlias

# Run as a script, this folder is on the path and the one above it is not.
sys.path.insert(0, str(Path(__file__).parents[1]))

import cattrs
import redis.asyncio
from attrs import evolve, frozen
from backplane_testservers import open_own_broker

from bench.figures import ratios, shown, spread, tell
from bench.findings import Findings, Goal, Plot, Progress
from bench.fleet_worker import Load, Part, Way
from bench.players import Player, player

__all__ = ["Run", "Runs", "findings", "measure", "measure_sized"]

PODS: Final = (1, 2, 4, 8, 16, 32)
QUICK: Final = (1, 2, 4)
STEADY: Final = Load(title="steady", events=500, rate=500, burst=1)
BURSTS: Final = Load(title="bursts", events=4_096, rate=4_000, burst=64)
LOADS: Final = (STEADY, BURSTS)
WARMUP: Final = 20
SIZE: Final = 200
GROWTH: Final = 1.5
SOCKETIO: Final = 50.0
_SETTLE_S: Final = 0.3
LATE_S: Final = 60.0
"""How long after the last publish the last event may come before it counts as lost."""
SUBSCRIBED_S: Final = 30.0
TITLES: Final[Mapping[Way, str]] = {
    "interest": "backplane, interest",
    "broadcast": "backplane, broadcast",
    "socketio": "python-socketio",
}
_redis: Final[Any] = redis.asyncio  # its own types are partly unknown to a strict checker

METHOD: Final = """\
A fleet of P pods, a process each, on one Redis; each holds one connection, of a user of its own. One more process \
publishes events of {size} bytes. {loads} Counted is the processor time of all pods and of the publisher, over the \
events; the broker's is shown beside it. Nothing is subtracted: beats, timers, wake-ups and echoes are in it. All \
processes are warm. python-socketio: an `AsyncRedisManager` per pod, a room per user, and a write-only one that \
emits. {rounds} rounds, in which all take turns."""
STEADY_NOTE: Final = """\
Steady: each event wakes two idle processes and one timer, which costs any Python program some 200 µs and is \
most of ours, so that the ratio says more of waking than of either library. Bursts show what an event costs."""


@frozen(kw_only=True)
class Run:
    """One fleet's run: microseconds of processor time per event.

    Args:
        pods_us: Of all pods.
        publisher_us: Of the publisher.
        broker_us: Of the broker.
        lost: Events that did not arrive.
    """

    pods_us: float
    publisher_us: float
    broker_us: float
    lost: int

    @property
    def fleet_us(self) -> float:
        """Of all but the broker."""
        return self.pods_us + self.publisher_us


Fleet: TypeAlias = tuple[Way, int]
"""Of which kind, and how many pods."""

Runs: TypeAlias = Mapping[Fleet, Sequence[Sequence[Run]]]
"""Of each fleet: round by round, load by load."""


def measure(progress: Progress, *, quick: bool) -> Findings:
    """Let fleets of all sizes run and return the findings.

    Raises:
        BrokerUnavailable: There is no Redis here.
        PlayerFailed: A process failed; it has said why.
    """
    return measure_sized(progress, rounds=1 if quick else 2, pods=QUICK if quick else PODS)


def measure_sized(
    progress: Progress, *, rounds: int, pods: Sequence[int] = PODS, loads: Sequence[Load] = LOADS
) -> Findings:
    """Do as `measure` does, at a size of your own."""
    ways: list[Way] = ["interest", "broadcast", "socketio"]
    if find_spec("socketio") is None:
        ways.remove("socketio")
    runs: dict[Fleet, list[list[Run]]] = {(way, number): [] for way in ways for number in pods}
    for turn in range(rounds):
        for (way, number), own in runs.items():
            progress(f"fleet, round {turn + 1} of {rounds}: {TITLES[way]}, {_pods(number)}")
            # A broker each: what the last fleet left in its queues is not this one's.
            with open_own_broker("redis") as broker:
                part = Part(
                    way=way,
                    url=broker.url,
                    channel=f"bench-{uuid.uuid4().hex}",
                    pods=number,
                    number=0,
                    warmup=WARMUP,
                    loads=loads,
                    size=SIZE,
                )
                own.append(asyncio.run(_run(part, broker.pid)))
    return findings(runs, loads)


async def _run(part: Part, broker: int) -> list[Run]:
    worker = "bench.fleet_worker"
    async with AsyncExitStack() as stack:
        pods = [
            await stack.enter_async_context(player(worker, "pod", evolve(part, number=number)))
            for number in range(part.pods)
        ]
        publisher = await stack.enter_async_context(player(worker, "publish", part))
        for one in (*pods, publisher):
            await one.hear("ready")
        if part.way == "socketio":
            await _subscribed(part)
        publisher.tell("warm")
        await publisher.hear("warm")
        await _complete(pods)
        pids = *[pod.pid for pod in pods], publisher.pid, broker
        used: list[list[float]] = []
        for load in part.loads:
            await asyncio.sleep(_SETTLE_S)
            before = [_used_s(pid) for pid in pids]
            publisher.tell("go")
            await publisher.hear("sent")
            await _complete(pods)
            after = [_used_s(pid) for pid in pids]
            used.append([(more - less) / load.events * 1e6 for less, more in zip(before, after, strict=True)])
        for one in (*pods, publisher):
            one.tell("stop")
        lost = sum([(await pod.hear("received"))["lost"] for pod in pods])
    return [
        Run(pods_us=sum(by_pods), publisher_us=by_publisher, broker_us=by_broker, lost=lost)
        for *by_pods, by_publisher, by_broker in used
    ]


async def _complete(pods: Sequence[Player]) -> None:
    """Wait until each pod has all of its events, or some are late for good."""
    hearing = [asyncio.ensure_future(pod.hear("all")) for pod in pods]
    done, late = await asyncio.wait(hearing, timeout=LATE_S)
    for one in late:
        one.cancel()
    if late:
        await asyncio.wait(late)
    for one in done:
        one.result()


async def _subscribed(part: Part) -> None:
    """Wait until all pods of python-socketio are subscribed, which it tells nobody."""
    async with asyncio.timeout(SUBSCRIBED_S), _redis.Redis.from_url(part.url) as client:
        while (await client.pubsub_numsub(part.channel))[0][1] < part.pods:  # noqa: ASYNC110 -- only the broker knows
            await asyncio.sleep(0.02)


def _used_s(pid: int) -> float:
    """Return the processor time of a process so far, in seconds; to the nanosecond, which /proc has not."""
    return time.clock_gettime(~pid << 3 | 2)  # the clock of clock_getcpuclockid(3), on Linux


def findings(runs: Runs, loads: Sequence[Load]) -> Findings:
    """Return what the runs come to."""
    by_load = [
        (load, {fleet: [by_load[at] for by_load in own] for fleet, own in runs.items()})
        for at, load in enumerate(loads)
    ]
    peer = any(way == "socketio" for way, _ in runs)
    return Findings(
        key="fleet",
        title="What an event costs the fleet",
        method=METHOD.format(size=SIZE, loads=" ".join(map(_described, loads)), rounds=len(next(iter(runs.values())))),
        columns=("µs per event", "pods + publisher", "pods", "publisher", "broker", "x the smallest", "lost"),
        rows=[row for load, own in by_load for row in _rows(load, own)],
        goals=[goal for load, own in by_load for goal in _goals(load, own)],
        plots=[_plot(load, own) for load, own in by_load],
        notes=[STEADY_NOTE] if peer else ["python-socketio is not installed here: use `uv run --group bench`."],
        raw={
            load.title: {
                f"{way} {number}": [cattrs.unstructure(run) for run in own] for (way, number), own in fleets.items()
            }
            for load, fleets in by_load
        },
    )


_Loaded: TypeAlias = Mapping[Fleet, Sequence[Run]]


def _described(load: Load) -> str:
    if load.burst == 1:
        return f"{load.title.capitalize()}: {load.events:,} at {load.rate:,}/s, each for the next user."
    return (
        f"{load.title.capitalize()}: {load.events:,} at {load.rate:,}/s, {load.burst} at once for one user, then for "
        "the next."
    )


def _pods(number: int) -> str:
    return "1 pod" if number == 1 else f"{number} pods"


def _us(runs: Sequence[Run]) -> list[float]:
    return [run.fleet_us for run in runs]


def _rows(load: Load, fleets: _Loaded) -> list[tuple[str, ...]]:
    least = min([number for _, number in fleets])
    rows: list[tuple[str, ...]] = []
    for (way, number), own in fleets.items():
        lost = sum([run.lost for run in own])
        parts = [run.pods_us for run in own], [run.publisher_us for run in own], [run.broker_us for run in own]
        rows.append(
            (
                f"{load.title}: {TITLES[way]}, {_pods(number)}",
                shown(spread(_us(own)), 0),
                *[f"{median(part):,.0f}" for part in parts],
                shown(ratios(_us(own), _us(fleets[way, least]))),
                f"{lost:,} LOST" if lost else "0",
            )
        )
    return rows


def _goals(load: Load, fleets: _Loaded) -> list[Goal]:
    pods = [number for _, number in fleets]
    least, most = min(pods), max(pods)
    ours = _us(fleets["interest", most])
    growth = ratios(ours, _us(fleets["interest", least]))
    goals = [
        Goal(
            what=f"{load.title}: interest routing, processor time per event at {most} pods against {least}",
            wanted=GROWTH,
            found=growth[0],
            spread=growth[1:],
            at_least=False,
        )
    ]
    if (peer := fleets.get(("socketio", most))) is not None:
        theirs = ratios(_us(peer), ours)
        goals.append(
            Goal(
                what=f"{load.title}: {most} pods, python-socketio's processor time against interest routing's",
                wanted=SOCKETIO,
                found=theirs[0],
                spread=theirs[1:],
            )
        )
    return goals


def _plot(load: Load, fleets: _Loaded) -> Plot:
    series: dict[str, list[tuple[float | str, float]]] = {}
    for (way, number), own in fleets.items():
        series.setdefault(TITLES[way], []).append((number, median(_us(own))))
    return Plot(
        key=f"fleet-{load.title}",
        kind="lines",
        title=f"Processor time per event over the size of the fleet ({load.title})",
        x="pods",
        y="µs per event, all pods and the publisher",
        series=series,
        log="xy",
    )


def _main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--pods", type=int, nargs="+", default=PODS)
    parser.add_argument("--quick", action="store_true", help="one round of 1, 2 and 4 pods")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    arguments = parser.parse_args()
    if min(arguments.rounds, *arguments.pods) < 1:
        parser.error("--rounds and --pods are at least 1")
    measuring = partial(
        measure_sized,
        rounds=1 if arguments.quick else arguments.rounds,
        pods=QUICK if arguments.quick else arguments.pods,
    )
    tell(measuring, arguments.json)


if __name__ == "__main__":
    _main()
