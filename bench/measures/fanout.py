"""What one remote publish costs the pod that has a thousand and fifty thousand connections of its target."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from importlib.util import find_spec
from statistics import median
from typing import ClassVar, Final

from attrs import evolve, frozen
from backplane_testservers import open_own_broker

from bench.events import SIZE, now
from bench.findings import Findings, Goal
from bench.measure import Measure, Progress, option
from bench.processes import start
from bench.spreads import ratios, shown, spread
from bench.workers.fanout import Crowd, Way

__all__ = ["BURSTS", "Case", "Fanout", "Figures", "Run", "cases"]

_SINK_US: Final = 0.4
_HELD_MS: Final = 5.0
_LITESTAR: Final = 3.0
_QUEUES: Final = 1_000
_BURST: Final = 25
_TITLES: Final[dict[Way, str]] = {
    "loop": "a bare loop over the sinks",
    "raw": "raw sinks",
    "value": "sinks of values",
    "connection": "connection() queues",
    "litestar": "litestar channels",
}
BURSTS: Final = ("one event at a time", f"bursts of {_BURST}")

_METHOD: Final = """\
One process publishes, over Redis, events of {size} bytes for everyone of one org; another holds the connections. A
window of events is published as fast as it goes, the next when all of it has arrived. A sink is a Python method that
adds 1. One of the queues is never read: ours closes it when it is full, litestar's drops what comes for it; all
others are read by a task each, and they alone count. Processor time is that of the whole receiving process, over its
deliveries. How long the loop is held is measured in a run of its own, by a callback in each turn of the loop: the
longest span between two of them, in the thread's processor time, which no other process lengthens, and by the clock.
{rounds} rounds, in which all take turns."""
_NOTES: Final = [
    """Between an event and its reader both libraries switch to the reader's task, and asyncio's C code does most of
that. We take no future, no callback and no copy of the event per reader.""",
    """x litestar's: how many deliveries our pod makes in the processor time in which litestar's makes one, in the same
round. By the clock the ratio would include the pause between two windows.""",
]
_NO_LITESTAR: Final = "litestar is not installed here: run this with `uv run --group bench`."


@frozen(kw_only=True)
class Case:
    """One row: so many members in this way, and how much is published."""

    way: Way
    members: int
    window: int
    windows: int

    @property
    def title(self) -> str:
        """For people."""
        what = _TITLES[self.way]
        title = f"{what}, {self.members:,}" if self.way == "loop" else f"{self.members:,} {what}"
        return f"{title}, {BURSTS[self.window > 1]}" if self.way in {"connection", "litestar"} else title


@frozen(kw_only=True)
class Run:
    """One case in one round."""

    deliveries: int  # how many
    seconds: float  # how long they took
    cpu_us: float  # processor time of the receiving process per delivery, in microseconds
    held_ms: float  # the longest turn of its loop in milliseconds of the thread's processor time
    held_wall_ms: float  # the same by the clock


@frozen(kw_only=True)
class Figures:
    """What is measured: the runs of each case, round by round."""

    runs: Sequence[tuple[Case, Sequence[Run]]]


def cases(scale: float = 1.0) -> list[Case]:
    """Return what is measured.

    Args:
        scale: Of the numbers of windows and of the larger crowd; 1 is in full.
    """
    few, many = max(2, round(4 * scale)), max(4, round(20 * scale))
    ways: tuple[Way, ...] = ("loop", "raw", "value")
    found = [
        Case(way=way, members=members, window=window, windows=windows)
        for members, window, windows in ((1_000, 50, many), (round(50_000 * scale), 5, few))
        for way in ways
    ]
    queues: tuple[Way, ...] = ("connection", "litestar") if find_spec("litestar") is not None else ("connection",)
    return found + [
        Case(way=way, members=_QUEUES, window=window, windows=windows)
        for window, windows in ((1, 10 * many), (_BURST, many))
        for way in queues
    ]


@frozen(kw_only=True)
class Fanout(Measure[Figures]):
    """What one remote publish costs the pod that has a thousand and fifty thousand connections of its target."""

    name: ClassVar = "fanout"
    title: ClassVar = "Fan-out to many connections of one pod"
    figures: ClassVar = Figures
    quick: ClassVar = {"rounds": 1, "scale": 0.2}
    usual_s: ClassVar = 80

    rounds: int = option(5, "in each of which all take turns")
    scale: float = option(1.0, "of the numbers of windows and of the larger crowd")

    def measure(self, progress: Progress) -> Figures:
        """Let all cases run."""
        return self.measure_cases(progress, cases(self.scale))

    def measure_cases(self, progress: Progress, cases: Sequence[Case]) -> Figures:
        """Do as `measure` does, with other cases."""
        progress.expect(self.rounds * len(cases))
        runs: dict[Case, list[Run]] = {case: [] for case in cases}
        with open_own_broker("redis") as broker:
            for number in range(self.rounds):
                for case in cases:
                    progress.step(f"round {number + 1} of {self.rounds}: {case.title}")
                    runs[case].append(asyncio.run(_run(case, broker.url)))
        return Figures(runs=list(runs.items()))

    @classmethod
    def findings(cls, figures: Figures) -> Findings:
        """Return what the runs come to."""
        by_case = dict(figures.runs)
        rows: list[tuple[str, ...]] = []
        goals: list[Goal] = []
        for case, own in figures.runs:
            peer = by_case.get(evolve(case, way="litestar")) if case.way == "connection" else None
            rows.append(_row(case, own, peer))
            goals += _goals(case, own, peer)
        return Findings(
            method=_METHOD.format(size=SIZE, rounds=len(figures.runs[0][1])),
            columns=(
                "one publish to",
                "µs per delivery",
                "deliveries/s",
                "loop held, ms",
                "by the clock",
                "x litestar's",
            ),
            rows=rows,
            goals=goals,
            notes=_NOTES if any(case.way == "litestar" for case in by_case) else [_NO_LITESTAR],
        )


async def _run(case: Case, url: str) -> Run:
    crowd = Crowd(
        way=case.way,
        url=url,
        channel=f"bench-{uuid.uuid4().hex}",
        members=case.members,
        window=case.window,
        # A reader is never more than a window behind; the one that does not read is, after two.
        backlog=max(2 * case.window, 4),
    )
    async with start("fanout", "receive", crowd) as receiver, start("fanout", "send", crowd) as sender:
        await receiver.hear("ready")

        async def windows(number: int) -> float:
            begun = now()
            for _ in range(number):
                sender.say("more")
                await receiver.hear("all")
            return now() - begun

        await windows(2)
        reports: dict[str, dict[str, float]] = {}
        for mode in ("quiet", "ticking"):
            receiver.say(mode)
            await receiver.hear(mode)
            seconds = await windows(case.windows)
            receiver.say("report")
            reports[mode] = {**await receiver.hear("report"), "seconds": seconds}
        sender.say("stop")
        receiver.say("stop")
    deliveries = crowd.readers * case.window * case.windows
    return Run(
        deliveries=deliveries,
        seconds=reports["quiet"]["seconds"],
        cpu_us=reports["quiet"]["cpu_s"] / deliveries * 1e6,
        held_ms=reports["ticking"]["held_cpu_s"] * 1e3,
        held_wall_ms=reports["ticking"]["held_s"] * 1e3,
    )


def _row(case: Case, own: Sequence[Run], peer: Sequence[Run] | None) -> tuple[str, ...]:
    return (
        case.title,
        shown(spread([run.cpu_us for run in own])),
        f"{median([run.deliveries / run.seconds for run in own]):,.0f}",
        shown(spread([run.held_ms for run in own])),
        f"{max([run.held_wall_ms for run in own]):.2f}",
        "" if peer is None else shown(_times(peer, own)),
    )


def _times(peer: Sequence[Run], own: Sequence[Run]) -> tuple[float, float, float]:
    return ratios([run.cpu_us for run in peer], [run.cpu_us for run in own])


def _goals(case: Case, own: Sequence[Run], peer: Sequence[Run] | None) -> list[Goal]:
    goals: list[Goal] = []
    if case.way == "raw":
        what = f"one publish to {case.title}, processor time per sink"
        goals.append(Goal.most(what, _SINK_US, spread([run.cpu_us for run in own]), "µs"))
    if case.way in {"raw", "value", "connection"}:
        _, least, most = spread([run.held_ms for run in own])
        # Never means never, so what counts is the most.
        goals.append(Goal.most(f"one publish to {case.title}, the loop held for", _HELD_MS, (most, least, most), "ms"))
    if peer is not None:
        what = f"{case.title}, one of them slow, deliveries per processor time against litestar's"
        goals.append(Goal.least(what, _LITESTAR, _times(peer, own)))
    return goals
