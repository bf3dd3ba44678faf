"""What one event costs a whole fleet of 1, 2, 4 ... 32 pods, when it is for one pod's user."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from importlib.util import find_spec
from statistics import median
from typing import ClassVar, Final, TypeAlias

from attrs import evolve, frozen
from backplane_testservers import open_own_broker

from bench.events import SIZE
from bench.findings import Findings, Goal, Plot
from bench.measure import Measure, Progress, option
from bench.processes import Process, start
from bench.spreads import lost, ratios, shown, spread
from bench.subjects.python_socketio import subscribed
from bench.workers.fleet import Load, Part

__all__ = ["LOADS", "Figures", "Fleet", "Run"]

LOADS: Final = (
    Load(title="steady", events=500, rate=500, burst=1),
    Load(title="bursts", events=4_096, rate=4_000, burst=64),
)
_WARMUP: Final = 20
_SETTLE_S: Final = 0.3
_LATE_S: Final = 60.0
"""How long after the last publish the last event may come before it counts as lost."""
_SUBSCRIBED_S: Final = 30.0
_GROWTH: Final = 1.5
_SOCKETIO: Final = 50.0
_TITLES: Final = {
    "interest": "backplane, interest",
    "broadcast": "backplane, broadcast",
    "socketio": "python-socketio",
}

_METHOD: Final = """\
A fleet of P pods, a process each, on one Redis; each holds one socket, of a user of its own. One more process publishes
events of {size} bytes. {loads} Counted is the processor time of all pods and of the publisher, over the events; the
broker's is shown too. Nothing is subtracted: beats, timers, wake-ups and echoes are in it. All processes are warm.
Backplane: a `Publisher` that makes a target from the user's id for each event, and a sink per pod. python-socketio: an
`AsyncRedisManager` per pod, a room per user, and a write-only manager that emits. {rounds} rounds, in which all take
turns."""
_STEADY_NOTE: Final = """\
Steady: each event wakes two idle processes and one timer, which costs any Python program some 200 µs and is most of our
figure, so that the ratio says more about waking than about either library. Bursts show what an event costs."""


@frozen(kw_only=True)
class Run:
    """One fleet's run: microseconds of processor time per event."""

    pods_us: float  # of all pods
    publisher_us: float
    broker_us: float
    lost: int

    @property
    def fleet_us(self) -> float:
        """Of all but the broker."""
        return self.pods_us + self.publisher_us


Runs: TypeAlias = Mapping[str, Sequence[Run]]
"""Round by round, by fleet: "interest 32"."""


@frozen(kw_only=True)
class Figures:
    """What is measured."""

    loads: Sequence[Load]
    runs: Mapping[str, Mapping[str, Sequence[Run]]]  # by load


@frozen(kw_only=True)
class Fleet(Measure[Figures]):
    """What one event costs a whole fleet of 1, 2, 4 ... 32 pods, when it is for one pod's user."""

    name: ClassVar = "fleet"
    title: ClassVar = "What an event costs the fleet"
    figures: ClassVar = Figures
    quick: ClassVar = {"rounds": 1, "pods": (1, 2, 4)}
    usual_s: ClassVar = 320
    loads: ClassVar[Sequence[Load]] = LOADS

    rounds: int = option(2, "in each of which all take turns")
    pods: tuple[int, ...] = option((1, 2, 4, 8, 16, 32), "sizes of the fleet")
    ways: tuple[str, ...] = option(tuple(_TITLES), "our routings, and python-socketio", _TITLES)

    def measure(self, progress: Progress) -> Figures:
        """Let fleets of all sizes run; without python-socketio where it is not installed."""
        ways = [way for way in self.ways if way != "socketio" or find_spec("socketio") is not None]
        progress.expect(self.rounds * len(ways) * len(self.pods))
        runs: dict[str, dict[str, list[Run]]] = {load.title: {} for load in self.loads}
        for turn in range(self.rounds):
            for way in ways:
                for number in self.pods:
                    fleet = f"{way} {number}"
                    progress.step(f"round {turn + 1} of {self.rounds}: {_title(fleet)}")
                    for load, run in zip(self.loads, self._one(way, number), strict=True):
                        runs[load.title].setdefault(fleet, []).append(run)
        return Figures(loads=self.loads, runs=runs)

    def _one(self, way: str, pods: int) -> list[Run]:
        # A broker each: what the last fleet left in its queues is not this one's.
        with open_own_broker("redis") as broker:
            channel = f"bench-{uuid.uuid4().hex}"
            part = Part(way=way, url=broker.url, channel=channel, pods=pods, number=0, warmup=_WARMUP, loads=self.loads)
            return asyncio.run(_run(part, broker.pid))

    @classmethod
    def findings(cls, figures: Figures) -> Findings:
        """Return what the runs come to."""
        loaded = [(load, figures.runs[load.title]) for load in figures.loads]
        fleets = loaded[0][1]
        peer = any(fleet.startswith("socketio") for fleet in fleets)
        return Findings(
            method=_METHOD.format(
                size=SIZE,
                loads=" ".join([_described(load) for load in figures.loads]),
                rounds=len(next(iter(fleets.values()))),
            ),
            columns=("µs per event", "pods + publisher", "pods", "publisher", "broker", "x the smallest", "lost"),
            rows=[row for load, runs in loaded for row in _rows(load, runs)],
            goals=[goal for load, runs in loaded for goal in _goals(load, runs)],
            plots=[_plot(load, runs) for load, runs in loaded],
            notes=[_STEADY_NOTE if peer else "python-socketio is not installed here: use `uv run --group bench`."],
        )


async def _run(part: Part, broker: int) -> list[Run]:
    async with AsyncExitStack() as stack:
        pods = [
            await stack.enter_async_context(start("fleet", "pod", evolve(part, number=number)))
            for number in range(part.pods)
        ]
        publisher = await stack.enter_async_context(start("fleet", "publish", part))
        for one in (*pods, publisher):
            await one.hear("ready")
        if part.way == "socketio":
            async with asyncio.timeout(_SUBSCRIBED_S):
                await subscribed(part.url, part.channel, part.pods)
        publisher.say("warm")
        await publisher.hear("warm")
        await _complete(pods)
        pids = *[pod.pid for pod in pods], publisher.pid, broker
        used: list[list[float]] = []
        for load in part.loads:
            await asyncio.sleep(_SETTLE_S)
            before = [_used_s(pid) for pid in pids]
            publisher.say("go")
            await publisher.hear("sent")
            await _complete(pods)
            after = [_used_s(pid) for pid in pids]
            used.append([(more - less) / load.events * 1e6 for less, more in zip(before, after, strict=True)])
        for one in (*pods, publisher):
            one.say("stop")
        missing = sum([(await pod.hear("received"))["lost"] for pod in pods])
    return [
        Run(pods_us=sum(by_pods), publisher_us=by_publisher, broker_us=by_broker, lost=missing)
        for *by_pods, by_publisher, by_broker in used
    ]


async def _complete(pods: Sequence[Process]) -> None:
    """Wait until each pod has all of its events, or some are late for good."""
    hearing = [asyncio.ensure_future(pod.hear("all")) for pod in pods]
    done, late = await asyncio.wait(hearing, timeout=_LATE_S)
    for one in late:
        one.cancel()
    if late:
        await asyncio.wait(late)
    for one in done:
        one.result()


def _used_s(pid: int) -> float:
    """Return the processor time of a process so far, in seconds; to the nanosecond, which /proc has not."""
    return time.clock_gettime(~pid << 3 | 2)  # the clock of clock_getcpuclockid(3), on Linux


def _described(load: Load) -> str:
    text = f"{load.title.capitalize()}: {load.events:,} at {load.rate:,}/s"
    return f"{text}, {'each for' if load.burst == 1 else f'{load.burst} at once for one user, then for'} the next user."


def _title(fleet: str) -> str:
    way, _, number = fleet.partition(" ")
    return f"{_TITLES[way]}, {number} {'pod' if number == '1' else 'pods'}"


def _us(runs: Sequence[Run]) -> list[float]:
    return [run.fleet_us for run in runs]


def _sizes(runs: Runs) -> tuple[int, int]:
    """Return the smallest and the largest fleet."""
    sizes = [int(fleet.partition(" ")[2]) for fleet in runs]
    return min(sizes), max(sizes)


def _rows(load: Load, runs: Runs) -> list[tuple[str, ...]]:
    return [
        (
            f"{load.title}: {_title(fleet)}",
            shown(spread(_us(own)), 0),
            f"{median([run.pods_us for run in own]):,.0f}",
            f"{median([run.publisher_us for run in own]):,.0f}",
            f"{median([run.broker_us for run in own]):,.0f}",
            shown(ratios(_us(own), _us(runs[f"{fleet.partition(' ')[0]} {_sizes(runs)[0]}"]))),
            lost(sum([run.lost for run in own])),
        )
        for fleet, own in runs.items()
    ]


def _goals(load: Load, runs: Runs) -> list[Goal]:
    least, most = _sizes(runs)
    ours = _us(runs[f"interest {most}"])
    what = f"{load.title}: interest routing, processor time per event at {most} pods against {least}"
    goals = [Goal.most(what, _GROWTH, ratios(ours, _us(runs[f"interest {least}"])))]
    if (peer := runs.get(f"socketio {most}")) is not None:
        what = f"{load.title}: {most} pods, python-socketio's processor time against interest routing's"
        goals.append(Goal.least(what, _SOCKETIO, ratios(_us(peer), ours)))
    return goals


def _plot(load: Load, runs: Runs) -> Plot:
    series: dict[str, list[tuple[float | str, float]]] = {}
    for fleet, own in runs.items():
        way, _, number = fleet.partition(" ")
        series.setdefault(_TITLES[way], []).append((int(number), median(_us(own))))
    return Plot(
        key=f"fleet-{load.title}",
        kind="lines",
        title=f"Processor time per event over the size of the fleet ({load.title})",
        x="pods",
        y="µs per event, all pods and the publisher",
        series=series,
        log="xy",
    )
