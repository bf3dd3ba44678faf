"""How soon a pod hears all of its targets again after its link was cut."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import urlsplit

from attrs import define, frozen
from backplane_core import BaseBackplane, Gap, Target, connect
from backplane_testservers import open_own_broker

from bench.findings import Findings, Goal
from bench.measure import BUSES, NAMES, Measure, Progress, option
from bench.processes import ask
from bench.spreads import Spread, shown, spread
from bench.workers.worker import Worker, say

__all__ = ["TARGETS_EACH", "WORKER", "Cut", "Figures", "Interest", "Job"]

TARGETS_EACH: Final = 3
"""Besides its own id, which is a target too: so four channels for each connection."""
_TICK_S: Final = 0.001
_DEADLINE_S: Final = 100
_SETTLED_S: Final = 5.5
"""A link that lived for so long was a good one: the wait before the next is short."""

_WITHIN_S: Final = {"redis": 3.0, "nats": 6.0}
_STALL_MS: Final = 50.0
_METHOD: Final = """\
One pod in a process of its own holds {targets:,} targets under interest routing: a channel for each, one in {each} of
them a connection's own id; each connection has `on_gap`. Its socket is shut down under it, {rounds} times; the clock
runs from then until the broker has confirmed every channel on the next link and the gap was reported to every
connection, the wait before that link included. A task that asks for its turn each millisecond notes how late it gets
it, and how much processor time the process took meanwhile: other processes hold up the first figure, not the second."""


@frozen(kw_only=True)
class Cut:
    """One cut of the link."""

    seconds: float
    cpu_seconds: float
    stall_ms: float  # the longest, by the clock
    held_ms: float  # by processor time


@frozen(kw_only=True)
class Figures:
    """What is measured."""

    targets: int
    cuts: Mapping[str, Sequence[Cut]]  # by broker


@frozen(kw_only=True)
class Interest(Measure[Figures]):
    """How soon a pod hears all of its targets again after its link was cut."""

    name: ClassVar = "interest"
    title: ClassVar = "A pod's interest after a reconnect"
    figures: ClassVar = Figures
    quick: ClassVar = {"targets": 2_000, "rounds": 1}
    usual_s: ClassVar = 90

    targets: int = option(100_000, "held by the pod")
    rounds: int = option(5, "how often its link is cut")
    bus: str = option("both", "which broker", BUSES)

    def measure(self, progress: Progress) -> Figures:
        """Cut a pod's link on each broker."""
        progress.expect(len(BUSES[self.bus]))
        cuts: dict[str, list[Cut]] = {}
        for bus in BUSES[self.bus]:
            progress.step(f"{NAMES[bus]}: {self.rounds} cuts")
            with open_own_broker(bus) as broker:
                channel = f"bench-{uuid.uuid4().hex}"
                job = Job(url=broker.url, channel=channel, targets=self.targets, rounds=self.rounds)
                done = asyncio.run(ask("interest", "reconnect", job))
            cuts[bus] = [Cut(**cut) for cut in done["cuts"]]
        return Figures(targets=self.targets, cuts=cuts)

    @classmethod
    def findings(cls, figures: Figures) -> Findings:
        """Return the table and the goals."""
        rows: list[tuple[str, ...]] = []
        goals: list[Goal] = []
        for bus, cuts in figures.cuts.items():
            seconds, stalls = _each(cuts, "seconds"), _each(cuts, "stall_ms")
            rows.append(
                (
                    NAMES[bus],
                    shown(seconds),
                    shown(_each(cuts, "cpu_seconds")),
                    shown(stalls, 0),
                    shown(_each(cuts, "held_ms"), 0),
                )
            )
            what = f"{NAMES[bus]}: {figures.targets:,} targets heard again after a cut"
            goals.append(Goal.most(what, _WITHIN_S[bus], seconds, "s"))
            goals.append(Goal.most(f"{NAMES[bus]}: longest stall of the loop meanwhile", _STALL_MS, stalls, "ms"))
        rounds = len(next(iter(figures.cuts.values())))
        return Findings(
            method=_METHOD.format(targets=figures.targets, each=1 + TARGETS_EACH, rounds=rounds),
            columns=(
                "broker",
                "all heard again, s",
                "processor, s",
                "longest stall, ms",
                "of it processor, ms",
            ),
            rows=rows,
            goals=goals,
        )


def _each(cuts: Sequence[Cut], name: str) -> Spread:
    return spread([getattr(cut, name) for cut in cuts])


# The process


@frozen(kw_only=True)
class Job:
    """What the pod is to do."""

    url: str
    channel: str
    targets: int  # how many channels it should hear
    rounds: int  # how often the link is cut

    @property
    def connections(self) -> int:
        """One for every four channels."""
        return self.targets // (1 + TARGETS_EACH)


@define
class _Stalls:
    """How late a task was that asked for its turn each millisecond, in seconds."""

    longest: float = 0.0  # by the clock: other processes hold it up as well
    held: float = 0.0  # by the processor time of this process

    async def watch(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due, used = loop.time() + _TICK_S, time.process_time()
            await asyncio.sleep(_TICK_S)
            self.longest = max(self.longest, loop.time() - due)
            self.held = max(self.held, time.process_time() - used)


@asynccontextmanager
async def _watched() -> AsyncGenerator[_Stalls]:
    stalls = _Stalls()
    watching = asyncio.create_task(stalls.watch())
    try:
        yield stalls
    finally:
        watching.cancel()
        await asyncio.wait({watching})


@define
class _Sockets:
    """The pod's connections."""

    gaps: int = 0

    def on_gap(self, _: Gap) -> None:
        self.gaps += 1

    def take(self, _: object) -> None:
        pass

    async def come(self, pod: BaseBackplane, number: int) -> None:
        """Attach a connection with its targets; return once all is heard."""
        name = f"connection-{number}"
        await pod.attach(name, self.take, on_gap=self.on_gap)
        for part in range(TARGETS_EACH):
            assert await pod.associate(name, Target("room", f"{number}-{part}"))


def _cut(port: int | None) -> None:
    """Cut this process's connections to that port, as a proxy that dies would."""
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError), socket.socket(fileno=os.dup(int(descriptor.name))) as found:
            if found.family == socket.AF_INET and found.getpeername()[1] == port:
                found.shutdown(socket.SHUT_RDWR)


async def _reconnect(job: Job) -> None:
    sockets, rounds = _Sockets(), list[dict[str, float]]()
    async with connect(job.url, channel=job.channel, routing="interest") as pod:
        for start in range(0, job.connections, 1_000):
            some = range(start, min(start + 1_000, job.connections))
            await asyncio.gather(*[sockets.come(pod, number) for number in some])
        for _ in range(job.rounds):
            await asyncio.sleep(_SETTLED_S)
            gc.collect()
            sockets.gaps = 0
            cpu_s = time.process_time()
            async with _watched() as stalls:
                began_at = time.perf_counter()
                _cut(urlsplit(job.url).port)
                await pod.wait_for_state("degraded", timeout_s=_DEADLINE_S)
                await pod.wait_for_state("live", timeout_s=_DEADLINE_S)
                took_s = time.perf_counter() - began_at
            assert sockets.gaps == job.connections, "each has one gap, before the pod is live"
            rounds.append(
                {
                    "seconds": took_s,
                    "cpu_seconds": time.process_time() - cpu_s,
                    "stall_ms": 1_000 * stalls.longest,
                    "held_ms": 1_000 * stalls.held,
                }
            )
    say("done", cuts=rounds)


WORKER: Final = Worker(Job, {"reconnect": _reconnect})
