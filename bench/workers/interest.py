"""A pod that holds many targets under interest routing, and whose link is cut, again and again."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from attrs import define, frozen
from backplane_core import BaseBackplane, Gap, Target, connect

from bench.workers.worker import Worker, say

__all__ = ["TARGETS_EACH", "WORKER", "Job"]

TARGETS_EACH: Final = 3
"""Besides its own id, which is a target too: so four channels for each connection."""
_TICK_S: Final = 0.001
_DEADLINE_S: Final = 100
_SETTLED_S: Final = 5.5
"""A link that lived for so long was a good one: the wait before the next is short."""


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
