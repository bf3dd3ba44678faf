"""What one remote publish costs the pod that has a thousand and fifty thousand connections of its target.

    uv run --group bench bench/fanout.py [--rounds 5] [--quick] [--json FILE]

By sinks, and by queues of which one is never read; the latter beside litestar's channels. Without the group `bench`
litestar is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Final

# Run as a script, this folder is on the path and the one above it is not.
sys.path.insert(0, str(Path(__file__).parents[1]))

import cattrs
from attrs import evolve, frozen
from backplane_testservers import open_own_broker

from bench.fanout_worker import Crowd, Way
from bench.figures import ratios, shown, spread, tell
from bench.findings import Findings, Goal, Progress
from bench.job import now
from bench.players import player

__all__ = ["Case", "Run", "findings", "measure", "measure_sized"]

SINK_US: Final = 0.4
HELD_MS: Final = 5.0
LITESTAR: Final = 3.0
QUEUES: Final = 1_000
BURST: Final = 25
SIZE: Final = 200
TITLES: Final[Mapping[Way, str]] = {
    "loop": "a bare loop over the sinks",
    "raw": "raw sinks",
    "value": "sinks of values",
    "connection": "connection() queues",
    "litestar": "litestar channels",
}

BURSTS: Final = ("one event at a time", f"bursts of {BURST}")
METHOD: Final = """\
One process publishes, over Redis, events of {size} bytes that are for everyone; another holds the connections. A \
window of events is published as fast as it goes, the next when all of it has arrived. A sink is a Python method that \
adds 1. Of the queues one is never read: ours closes it when it is full, litestar's drops what is for it; all others \
are read by a task each, and they alone count. Processor time is that of the whole receiving process, over its \
deliveries. How long the loop is held is measured in a run of its own, by a callback in each turn of the loop: the \
longest span between two of them, in the thread's processor time, which no other process lengthens, and by the clock. \
{rounds} rounds, in which all take turns."""
READERS: Final = """\
x litestar's: how many deliveries our pod makes in the processor time in which litestar's makes one, in the same \
round. By the clock the ratio would hold the pause between two windows, too."""


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
        title = (
            f"{TITLES[self.way]}, {self.members:,}" if self.way == "loop" else f"{self.members:,} {TITLES[self.way]}"
        )
        return f"{title}, {BURSTS[self.window > 1]}" if self.queues else title

    @property
    def queues(self) -> bool:
        """Whether its members have queues."""
        return self.way in {"connection", "litestar"}

    @property
    def peer(self) -> Case:
        """The same by litestar's channels."""
        return evolve(self, way="litestar")


@frozen(kw_only=True)
class Run:
    """One case in one round.

    Args:
        deliveries: How many.
        seconds: How long they took.
        cpu_us: Processor time of the receiving process per delivery, in microseconds.
        held_ms: The longest turn of its loop in milliseconds of the thread's processor time.
        held_wall_ms: The same by the clock.
        gc_ms: The longest garbage collection, in the thread's processor time.
    """

    deliveries: int
    seconds: float
    cpu_us: float
    held_ms: float
    held_wall_ms: float
    gc_ms: float

    @property
    def rate(self) -> float:
        """Deliveries per second."""
        return self.deliveries / self.seconds


def cases(scale: float = 1.0) -> list[Case]:
    """Return what is measured.

    Args:
        scale: Of the numbers of windows and of the larger crowd; 1 is in full.
    """
    small, large = QUEUES, round(50_000 * scale) if scale < 1 else 50_000
    few, many = max(2, round(4 * scale)), max(4, round(20 * scale))
    ways: tuple[Way, ...] = ("loop", "raw", "value")
    found = [
        Case(way=way, members=members, window=window, windows=windows)
        for members, window, windows in ((small, 50, many), (large, 5, few))
        for way in ways
    ]
    queues: tuple[Way, ...] = ("connection", "litestar") if find_spec("litestar") is not None else ("connection",)
    return found + [
        Case(way=way, members=QUEUES, window=window, windows=windows)
        for window, windows in ((1, 10 * many), (BURST, many))
        for way in queues
    ]


QUEUES_NOTE: Final = """\
Between an event and its reader both libraries switch to the reader's task, and asyncio's C code does most of \
that. We take no future, no callback and no copy of the event per reader, hence no garbage collections. What is \
left, one event at a time, is that step with the reader's new coroutine, some 0.6 µs that no `async for` is without, \
and the queue with its bounds and counts. A thousand tasks that each await a future, with no queue at all, cost about \
the same as our whole delivery."""


def measure(progress: Progress, *, quick: bool) -> Findings:
    """Let all cases run and return the findings.

    Raises:
        BrokerUnavailable: There is no Redis here.
        PlayerFailed: A process failed; it has said why.
    """
    return measure_sized(progress, rounds=1 if quick else 5, cases=cases(0.2 if quick else 1))


def measure_sized(progress: Progress, *, rounds: int, cases: Sequence[Case]) -> Findings:
    """Do as `measure` does, with cases of your own."""
    runs: dict[Case, list[Run]] = {case: [] for case in cases}
    with open_own_broker("redis") as broker:
        for number in range(rounds):
            for case in cases:
                progress(f"fan-out, round {number + 1} of {rounds}: {case.title}")
                runs[case].append(asyncio.run(_run(case, broker.url)))
    return findings(runs)


async def _run(case: Case, url: str) -> Run:
    crowd = Crowd(
        way=case.way,
        url=url,
        channel=f"bench-{uuid.uuid4().hex}",
        members=case.members,
        window=case.window,
        # A reader is never more than a window behind; who does not read is, after two.
        backlog=max(2 * case.window, 4),
        size=SIZE,
    )
    worker = "bench.fanout_worker"
    async with player(worker, "receive", crowd) as receiver, player(worker, "send", crowd) as sender:
        await receiver.hear("ready")

        async def windows(number: int) -> float:
            begun = now()
            for _ in range(number):
                sender.tell("more")
                await receiver.hear("all")
            return now() - begun

        await windows(2)
        reports: dict[str, dict[str, float]] = {}
        for mode in ("quiet", "ticking"):
            receiver.tell(mode)
            await receiver.hear(mode)
            seconds = await windows(case.windows)
            receiver.tell("report")
            reports[mode] = {**await receiver.hear("report"), "seconds": seconds}
        sender.tell("stop")
        receiver.tell("stop")
    deliveries = crowd.readers * case.window * case.windows
    return Run(
        deliveries=deliveries,
        seconds=reports["quiet"]["seconds"],
        cpu_us=reports["quiet"]["cpu_s"] / deliveries * 1e6,
        held_ms=reports["ticking"]["held_cpu_s"] * 1e3,
        held_wall_ms=reports["ticking"]["held_s"] * 1e3,
        gc_ms=reports["ticking"]["gc_s"] * 1e3,
    )


def findings(runs: Mapping[Case, Sequence[Run]]) -> Findings:
    """Return what the runs come to."""
    rows: list[tuple[str, ...]] = []
    goals: list[Goal] = []
    for case, own in runs.items():
        cpu, held = spread([run.cpu_us for run in own]), spread([run.held_ms for run in own])
        peer = runs.get(case.peer) if case.way == "connection" else None
        ratio = None if peer is None else ratios([run.cpu_us for run in peer], [run.cpu_us for run in own])
        rows.append(
            (
                case.title,
                shown(cpu),
                f"{median([run.rate for run in own]):,.0f}",
                shown(held),
                f"{max([run.held_wall_ms for run in own]):.2f}",
                f"{max([run.gc_ms for run in own]):.2f}",
                "" if ratio is None else shown(ratio),
            )
        )
        if case.way == "raw":
            goals.append(
                Goal(
                    what=f"one publish to {case.title}, processor time per sink",
                    wanted=SINK_US,
                    found=cpu[0],
                    spread=cpu[1:],
                    at_least=False,
                    unit="µs",
                )
            )
        if case.way in {"raw", "value", "connection"}:
            goals.append(
                Goal(
                    what=f"one publish to {case.title}, the loop held for",
                    wanted=HELD_MS,
                    found=held[2],  # never means never
                    spread=held[1:],
                    at_least=False,
                    unit="ms",
                )
            )
        if ratio is not None:
            goals.append(
                Goal(
                    what=f"{case.title}, one of them slow, deliveries per processor time against litestar's",
                    wanted=LITESTAR,
                    found=ratio[0],
                    spread=ratio[1:],
                )
            )
    return Findings(
        key="fanout",
        title="Fan-out to many connections of one pod",
        method=METHOD.format(size=SIZE, rounds=len(next(iter(runs.values())))),
        columns=(
            "one publish to",
            "µs per delivery",
            "deliveries/s",
            "loop held, ms",
            "by the clock",
            "longest collection",
            "x litestar's",
        ),
        rows=rows,
        goals=goals,
        notes=[
            QUEUES_NOTE,
            READERS
            if any(case.way == "litestar" for case in runs)
            else "litestar is not installed here: run this with `uv run --group bench`.",
        ],
        raw={case.title: [cattrs.unstructure(run) for run in own] for case, own in runs.items()},
    )


def _main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round of a fifth")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds is at least 1")
    measuring = partial(
        measure_sized,
        rounds=1 if arguments.quick else arguments.rounds,
        cases=cases(0.2 if arguments.quick else 1),
    )
    tell(measuring, arguments.json)


if __name__ == "__main__":
    _main()
