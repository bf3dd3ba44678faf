"""How long an event takes from the publish call to the socket in another process, at a steady rate."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from statistics import median
from typing import ClassVar, Final

import msgspec
from attrs import define, field, frozen
from backplane_testservers import open_own_broker

from bench.events import SIZE, USERS, now
from bench.findings import Findings, Goal, Plot
from bench.measure import BUSES, NAMES, Measure, Progress, option
from bench.processes import ProcessFailed, start
from bench.spreads import lost, percentile, ratios, shown, spread
from bench.subjects.lineup import ALL, SUBJECTS
from bench.subjects.turn import Sender, Turn
from bench.workers.worker import Worker, heard, say

__all__ = ["WORKER", "Figures", "Latency", "Pace", "Run", "TimedSockets", "run_paced"]

LATE_S: Final = 2.0
"""How long after the last publish the last event may come before it counts as lost."""
_WARM_RATE: Final = 2_000

_BARE: Final[Mapping[str, str]] = {"redis": "redis-bare", "nats": "nats-bare-wildcard"}
_OURS: Final = ("broadcast", "interest", "broadcast-sinks", "interest-sinks")
_WARMUP: Final = 200
_SHARES: Final = (0.001, *[number / 100 for number in range(1, 100)], 0.995, 0.999, 1.0)
_P50, _P99, _MAX = (_SHARES.index(share) for share in (0.5, 0.99, 1.0))
_LIMITS: Final = (("p50", _P50, 1.0), ("p99", _P99, 1.3))

_METHOD: Final = """\
One process publishes {rate} events of {size} bytes a second, for {users:,} users in turn, each when its time has come,
whatever became of the one before; another holds the users' sockets. The code is that of the [throughput](#throughput)
measurement. Latency runs from right before the publishing code (it makes the target and the event, so both and the
event's encoding are part of it) to the moment when the event is handed over. Both processes read one clock of the
machine. {rounds} rounds of {seconds:g} s; in each all take turns, in another order each time, in fresh processes that
are warm. A ratio is the median of our rounds over the median of the bare client's; its spread is that of the rounds'
own ratios."""


@frozen(kw_only=True)
class Run:
    """One subject's run."""

    percentiles_ms: Sequence[float]  # of the latencies, at _SHARES
    lost: int

    @classmethod
    def of(cls, latencies_s: Sequence[float], lost: int = 0) -> Run:
        """Return the run with these latencies in seconds."""
        ordered = sorted(latencies_s)
        percentiles = [1_000 * percentile(ordered, share) for share in _SHARES]
        return cls(percentiles_ms=percentiles, lost=lost)


@frozen(kw_only=True)
class Figures:
    """What is measured."""

    seconds: float  # of each run
    rate: int
    runs: Mapping[str, Mapping[str, Sequence[Run]]] = field(repr=False)  # by broker and subject


@frozen(kw_only=True)
class Latency(Measure[Figures]):
    """How long an event takes from the publish call to the socket in another process, at a steady rate."""

    name: ClassVar = "latency"
    title: ClassVar = "Latency"
    figures: ClassVar = Figures
    quick: ClassVar = {"rounds": 2, "seconds": 1.0}
    usual_s: ClassVar = 400

    rounds: int = option(7, "in each of which all take turns")
    seconds: float = option(4.0, "of each run")
    rate: int = option(500, "events per second")
    bus: str = option("both", "which broker", BUSES)
    subjects: tuple[str, ...] = option(_OURS, "which of ours; the bare client always runs", _OURS)

    def measure(self, progress: Progress) -> Figures:
        """Let all subjects run."""
        progress.expect(self.rounds * (1 + len(self.subjects)) * len(BUSES[self.bus]))
        found: dict[str, dict[str, list[Run]]] = {}
        for bus in BUSES[self.bus]:
            with open_own_broker(bus) as broker:
                found[bus] = asyncio.run(self._rounds(bus, broker.url, progress))
        return Figures(seconds=self.seconds, rate=self.rate, runs=found)

    async def _rounds(self, bus: str, url: str, progress: Progress) -> dict[str, list[Run]]:
        keys = [_BARE[bus], *[f"{bus}-{one}" for one in self.subjects]]
        found: dict[str, list[Run]] = {key: [] for key in keys}
        for number in range(self.rounds):
            shift = number % len(keys)
            for key in keys[shift:] + keys[:shift]:
                progress.step(f"round {number + 1} of {self.rounds}: {SUBJECTS[key].name}")
                found[key].append(await run_paced(key, url, self.seconds, self.rate))
        return found

    @classmethod
    def findings(cls, figures: Figures) -> Findings:
        """Return what the runs come to."""
        rows: list[tuple[str, ...]] = []
        goals: list[Goal] = []
        for bus, runs in figures.runs.items():
            bare = runs[_BARE[bus]]
            for key, own in runs.items():
                ours = key != _BARE[bus]
                rows.append(
                    (
                        SUBJECTS[key].name,
                        *[shown(spread(_each(own, at)), 3) for at in (_P50, _P99)],
                        f"{max(_each(own, _MAX)):.2f}",
                        *[f"{_ratio(own, bare, at):.2f}" if ours else "" for at in (_P50, _P99)],
                        lost(sum([run.lost for run in own])),
                    )
                )
                if ours:
                    what = f"{NAMES[bus]}, {SUBJECTS[key].title.removeprefix('backplane, ')}"
                    against = SUBJECTS[_BARE[bus]].title
                    for name, at, limit in _LIMITS:
                        edges = ratios(_each(own, at), _each(bare, at))[1:]
                        goals.append(
                            Goal.most(f"{what}, {name} against {against}", limit, (_ratio(own, bare, at), *edges))
                        )
        first = next(iter(figures.runs.values()))
        return Findings(
            method=_METHOD.format(
                rate=figures.rate,
                size=SIZE,
                users=USERS,
                rounds=len(next(iter(first.values()))),
                seconds=figures.seconds,
            ),
            columns=("publish to socket, ms", "p50", "p99", "max", "p50 x bare", "p99 x bare", "lost"),
            rows=rows,
            goals=goals,
            plots=[_plot(bus, runs) for bus, runs in figures.runs.items()],
        )


async def run_paced(key: str, url: str, seconds: float, rate: int) -> Run:
    """Let a subject publish at a steady rate, in two fresh processes.

    Args:
        key: Of the subject.
        url: Of a broker of its kind.
        seconds: How long.
        rate: Events per second.

    Raises:
        ProcessFailed: A process failed, or no event came.
    """
    events = max(1, round(seconds * rate))
    turn = Turn(subject=key, url=url, channel=f"bench-{uuid.uuid4().hex}", events=events, warmup=_WARMUP)
    pace = Pace(turn=turn, rate=rate)
    async with start("latency", "receive", pace) as receiver, start("latency", "send", pace) as sender:
        await receiver.hear("ready")
        sender.say("go")
        sent = (await sender.hear("sent"))["times"]
        receiver.say("stop")
        came = (await receiver.hear("received"))["times"]
    latencies = [end - begin for begin, end in zip(sent, came, strict=True) if end is not None]
    if not latencies:
        raise ProcessFailed(f"{key}: no event came")
    return Run.of(latencies, lost=events - len(latencies))


def _each(runs: Sequence[Run], at: int) -> list[float]:
    return [run.percentiles_ms[at] for run in runs]


def _ratio(ours: Sequence[Run], bare: Sequence[Run], at: int) -> float:
    return median(_each(ours, at)) / median(_each(bare, at))


def _plot(bus: str, runs: Mapping[str, Sequence[Run]]) -> Plot:
    return Plot(
        key=f"latency-{bus}",
        kind="lines",
        title=f"Latency over {NAMES[bus]}: what share of the events came within",
        x="ms from publish to socket, medians of the rounds",
        y="% of events",
        series={
            SUBJECTS[key].title: [
                (median(_each(own, at)), 100 * share) for at, share in enumerate(_SHARES) if at != _MAX
            ]
            for key, own in runs.items()
        },
        log="x",
    )


# The process


@frozen(kw_only=True)
class Pace:
    """What both processes of a run know."""

    turn: Turn  # who does what
    rate: int  # events per second


@define
class TimedSockets:
    """Note when each event came; what is in it is looked at when the run is over."""

    expected: int  # how many come, the warm-up among them
    times: list[float] = field(factory=list[float])  # when they came
    events: list[bytes | str] = field(factory=list[bytes | str])  # their JSON
    complete: asyncio.Event = field(factory=asyncio.Event)  # set when all are here

    def of(self, _: str) -> TimedSockets:
        """All users have the same."""
        return self

    def take(self, data: bytes | str) -> None:
        """Note an event."""
        self.times.append(now())
        self.events.append(data)
        if len(self.events) == self.expected:
            self.complete.set()

    def came_at(self, numbers: range) -> list[float | None]:
        """Return when the event of each number came; None: it did not."""
        found: dict[int, float] = {}
        for at, data in zip(self.times, self.events, strict=True):
            number = msgspec.json.decode(data)["n"]
            assert number not in found, "an event came twice"
            found[number] = at
        return [found.get(number) for number in numbers]


async def _send(pace: Pace) -> None:
    turn = pace.turn
    async with ALL[turn.subject].library.sender(turn) as sender:
        await heard("go")
        await _paced(sender, turn.warmup_numbers, _WARM_RATE)
        times = await _paced(sender, turn.numbers, pace.rate)
        say("sent", times=times)
        await sender.settle(turn.warmup + turn.events)


async def _paced(sender: Sender, numbers: range, rate: int) -> list[float]:
    """Publish when it is time for each, whatever became of the one before; return when that was."""
    begun, times = now(), list[float]()
    for turn, number in enumerate(numbers):
        if (early := begun + turn / rate - now()) > 0:
            await asyncio.sleep(early)
        times.append(now())
        await sender.publish((number,))
    return times


async def _receive(pace: Pace) -> None:
    turn = pace.turn
    sockets = TimedSockets(turn.warmup + turn.events)
    async with ALL[turn.subject].library.receiver(turn, sockets):
        say("ready")
        await heard("stop")
        with suppress(TimeoutError):
            async with asyncio.timeout(LATE_S):
                await sockets.complete.wait()
    say("received", times=sockets.came_at(turn.numbers))


WORKER: Final = Worker(Pace, {"send": _send, "receive": _receive})
