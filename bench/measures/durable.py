"""What a log costs next to bare loops, others' streams and our own pub/sub, and what clients that come back cost."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar, Final

from attrs import define, field, frozen
from backplane_core import CaughtUp, DistributedBackplane, Event, Target
from backplane_core.testing import MemoryLog, MemoryLogTransport
from backplane_testservers import NatsServer, open_own_broker

from bench.events import nested, user_id
from bench.findings import Findings, Goal
from bench.libraries import need_peers
from bench.measure import BUSES, NAMES, Measure, Progress, option
from bench.measures.latency import Run, run_paced
from bench.measures.throughput import run_turn
from bench.measures.throughput_findings import Result
from bench.spreads import Spread, lost, ratios, shown, spread
from bench.subjects.lineup import ALL

__all__ = ["Durable", "Figures"]

_CEILING: Final[Mapping[str, str]] = {"redis": "streams-loop", "nats": "jetstream-bare"}
_OURS: Final[Mapping[str, str]] = {"redis": "streams-ours", "nats": "jetstream-ours"}
_PUBSUB: Final[Mapping[str, str]] = {"redis": "redis-broadcast", "nats": "nats-broadcast"}
_PEERS: Final[Mapping[str, Sequence[str]]] = {
    "redis": ("channels-layer", "streams-litestar", "streams-broadcaster"),
    "nats": (),
}
_P50: Final = 50
"""The place of the median among the percentiles of a run: the first one is that of a thousandth."""
MISSED: Final = 3
WAIT_S: Final = 120
AT_ONCE: Final = 20
"""Clients that come between two turns of the loop, as a server accepts them."""

_METHOD: Final = """\
Throughput and latency are measured as [above](#throughput), by the same code, over logs: a bare loop writes 64 commands
at once and reads pages of one Redis stream, or publishes with nats-py's `publish_async` and reads by its ordered
consumer from a stream on disk. {rounds} rounds, in each of which all take turns. For latency ours publish {rate} events
a second over the log and over pub/sub, for {seconds:g} s.

Coming back: {clients:,} clients of a pod that has died come to another one, {at_once} between two turns of its loop,
each with the id of its last event, and each gets the {missed} events that it missed, with their ids, from the pod's
memory. Counted is the processor time of the thread, without garbage collections; in memory, without sockets."""


@frozen(kw_only=True)
class Figures:
    """What is measured."""

    seconds: float  # of each run at a steady rate
    rate: int
    clients: int
    results: Mapping[str, Mapping[str, Sequence[Result]]] = field(repr=False)  # by broker and subject
    runs: Mapping[str, Mapping[str, Sequence[Run]]] = field(repr=False)  # the same, at a steady rate
    resume_s: Sequence[float]  # processor time until all clients have what they missed, by round


@frozen(kw_only=True)
class Durable(Measure[Figures]):
    """What a log costs next to bare loops, others' streams and our own pub/sub; what clients that come back cost."""

    name: ClassVar = "durable"
    title: ClassVar = "Over a log"
    figures: ClassVar = Figures
    quick: ClassVar = {"events": 5_000, "rounds": 1, "seconds": 1.0, "clients": 1_000}
    usual_s: ClassVar = 400

    events: int = option(100_000, "per subject and round; a slow one gets a share")
    rounds: int = option(5, "in each of which all take turns")
    seconds: float = option(4.0, "of each run at a steady rate")
    rate: int = option(500, "events per second of those")
    clients: int = option(10_000, "that come back at once")
    bus: str = option("both", "which broker", BUSES)

    def measure(self, progress: Progress) -> Figures:
        """Let all take turns on both brokers, then let clients come back."""
        buses = BUSES[self.bus]
        if any(_PEERS[bus] for bus in buses):
            need_peers()
        progress.expect(self.rounds * (1 + sum([len(_subjects(bus)) + 2 for bus in buses])))
        results: dict[str, dict[str, list[Result]]] = {}
        runs: dict[str, dict[str, list[Run]]] = {}
        for bus in buses:
            with _broker(bus) as url:
                results[bus], runs[bus] = asyncio.run(self._rounds(bus, url, progress))
        resume_s: list[float] = []
        for number in range(self.rounds):
            progress.step(f"round {number + 1} of {self.rounds}: {self.clients:,} clients come back")
            resume_s.append(asyncio.run(Storm(self.clients).run()))
        return Figures(
            seconds=self.seconds, rate=self.rate, clients=self.clients, results=results, runs=runs, resume_s=resume_s
        )

    async def _rounds(
        self, bus: str, url: str, progress: Progress
    ) -> tuple[dict[str, list[Result]], dict[str, list[Run]]]:
        results: dict[str, list[Result]] = {key: [] for key in _subjects(bus)}
        runs: dict[str, list[Run]] = {key: [] for key in (_PUBSUB[bus], _OURS[bus])}
        for number in range(1, self.rounds + 1):
            for key, found in results.items():
                progress.step(f"round {number} of {self.rounds}: {ALL[key].name}")
                found.append(await run_turn(key, url, self.events))
            for key, paced in runs.items():
                progress.step(f"round {number} of {self.rounds}: {ALL[key].name}, at a steady rate")
                paced.append(await run_paced(key, url, self.seconds, self.rate))
        return results, runs

    @classmethod
    def findings(cls, figures: Figures) -> Findings:
        """Return table and goals."""
        rows: list[tuple[str, ...]] = []
        goals: list[Goal] = []
        for bus, results in figures.results.items():
            ours, runs = results[_OURS[bus]], figures.runs[bus]
            rows += [_row(key, found, ours, runs.get(key)) for key, found in results.items()]
            rows.append(_paced_row(_PUBSUB[bus], runs[_PUBSUB[bus]]))
            goals += _goals(bus, results, runs)
        resumed = spread(figures.resume_s)
        goals.append(Goal.most(f"{figures.clients:,} clients come back, from memory", 3.0, resumed, " s"))
        first = next(iter(figures.results.values()))
        return Findings(
            method=_METHOD.format(
                rounds=len(next(iter(first.values()))),
                rate=figures.rate,
                seconds=figures.seconds,
                clients=figures.clients,
                at_once=AT_ONCE,
                missed=MISSED,
            ),
            columns=("over a log", "events/s", "ours is", "sender, µs", "receiver, µs", "p50, ms", "lost"),
            rows=rows,
            goals=goals,
            notes=[_coming_back(figures.clients, resumed)],
        )


def _coming_back(clients: int, resumed: Spread) -> str:
    each_us = 1e6 * resumed[0] / clients
    return f"{clients:,} clients that come back take {shown(resumed)} s of one core: {each_us:,.0f} µs each."


def _subjects(bus: str) -> Sequence[str]:
    return (_CEILING[bus], _OURS[bus], *_PEERS[bus])


@contextmanager
def _broker(bus: str) -> Generator[str]:
    """Start a broker that keeps logs; its URL."""
    with NatsServer(jetstream=True) if bus == "nats" else open_own_broker("redis") as broker:
        yield broker.url


def _row(key: str, results: Sequence[Result], ours: Sequence[Result], runs: Sequence[Run] | None) -> tuple[str, ...]:
    against = "" if results is ours else f"{ratios(_rates(ours), _rates(results))[0]:.2f} x"
    return (
        ALL[key].name,
        shown(spread(_rates(results)), 0),
        against,
        shown(spread([one.sender_us for one in results]), 1),
        shown(spread([one.receiver_us for one in results]), 1),
        "" if runs is None else shown(spread(_p50(runs)), 3),
        lost(sum([one.lost for one in results])),
    )


def _paced_row(key: str, runs: Sequence[Run]) -> tuple[str, ...]:
    return (ALL[key].name, "", "", "", "", shown(spread(_p50(runs)), 3), lost(sum([one.lost for one in runs])))


def _goals(bus: str, results: Mapping[str, Sequence[Result]], runs: Mapping[str, Sequence[Run]]) -> list[Goal]:
    name, ours = NAMES[bus], results[_OURS[bus]]
    found = [Goal.least(f"{name}, against the bare loop", 0.5, ratios(_rates(ours), _rates(results[_CEILING[bus]])))]
    found += [
        Goal.least(f"{name}, against {ALL[key].title}", 10.0, ratios(_rates(ours), _rates(results[key])))
        for key in _PEERS[bus]
    ]
    p50 = ratios(_p50(runs[_OURS[bus]]), _p50(runs[_PUBSUB[bus]]))
    return [*found, Goal.most(f"{name}, p50 against our pub/sub", 1.5, p50)]


def _rates(results: Sequence[Result]) -> list[float]:
    return [one.rate for one in results]


def _p50(runs: Sequence[Run]) -> list[float]:
    return [one.percentiles_ms[_P50] for one in runs]


@define
class Storm:
    """Clients of a pod that has died come to another one.

    Args:
        clients: How many they are.
    """

    _clients: int
    _served: int = 0
    _all_served: asyncio.Event = field(factory=asyncio.Event)

    async def run(self) -> float:
        """Return the seconds of processor time until all have what they missed."""
        log = MemoryLog()
        pod, worker = (DistributedBackplane(MemoryLogTransport(log)) for _ in range(2))
        async with asyncio.timeout(WAIT_S), pod, worker:
            await worker.publish(Target.everyone(), "before")
            await worker.flush()
            await _read(pod, 1)
            last_id = pod.last_event_id
            for number in range(MISSED * self._clients):
                await worker.publish(self._target(number), nested(number, user_id(number)))
            await worker.flush()
            await _read(pod, 1 + MISSED * self._clients)
            gc.collect()
            gc.disable()
            try:
                return await self._measure(pod, str(last_id))
            finally:
                gc.enable()

    async def _measure(self, pod: DistributedBackplane, last_id: str) -> float:
        begun = time.thread_time()
        tasks: list[asyncio.Task[None]] = []
        for number in range(self._clients):
            tasks.append(asyncio.create_task(self._come_back(pod, number, last_id)))
            if not number % AT_ONCE:
                await asyncio.sleep(0)
        await self._all_served.wait()
        took = time.thread_time() - begun
        await asyncio.gather(*tasks)
        return took

    async def _come_back(self, pod: DistributedBackplane, number: int, last_id: str) -> None:
        replayed = 0
        async with pod.connection(None, self._target(number), resume_from=last_id) as connection:
            async for item in connection.items(marks=True):
                if isinstance(item, CaughtUp):
                    break
                assert isinstance(item, Event), "a gap"
                assert item.id is not None
                replayed += 1
            assert replayed == MISSED, f"a client got {replayed} of {MISSED} events"
            self._served += 1
            if self._served == self._clients:
                self._all_served.set()
            await self._all_served.wait()  # as long as the others are connected

    def _target(self, number: int) -> Target:
        return Target.user(f"u{number % self._clients}")


async def _read(pod: DistributedBackplane, events: int) -> None:
    while pod.stats().received < events:  # noqa: ASYNC110 -- only a counter shows it
        await asyncio.sleep(0.005)
