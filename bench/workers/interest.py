"""A pod that hears many channels, and one thing that it does.

reconnect   its link is cut, round after round: how soon everything is heard again, and how long the loop was held
at_once     many associations made at the same moment: how often the broker is asked
churn       connections that come, associate and go: the same
reload      all connections go and come back under new ids with the same targets: the same
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from attrs import define, field, frozen
from backplane_core import BaseBackplane, DistributedBackplane, Frame, Gap, Link, Lost, Target, Traits, Transport
from backplane_nats import NatsTransport
from backplane_redis import RedisTransport

from bench.workers.worker import Worker, say

__all__ = ["AT_ONCE", "TARGETS_EACH", "WORKER", "Job", "Work"]

TARGETS_EACH: Final = 3
"""Besides its own id, which is a target too: so four channels for each connection."""
AT_ONCE: Final = 200
"""Connections that come and go at the same time."""
TICK_S: Final = 0.001
_DEADLINE_S: Final = 100

Work: TypeAlias = Literal["reconnect", "at_once", "churn", "reload"]


@frozen(kw_only=True)
class Job:
    """What the pod is to do."""

    work: Work  # see above
    url: str  # of the broker
    channel: str  # a name that no other run uses
    targets: int  # how many channels it should hear
    rounds: int = 1  # how often the link is cut

    @property
    def connections(self) -> range:
        """One for every four channels."""
        return range(self.targets // (1 + TARGETS_EACH))


@define
class Asked:
    """Counts what links are asked for."""

    commands: int = 0
    channels: int = 0
    opened: int = 0

    def note(self, channels: Sequence[str]) -> None:
        """One more command."""
        self.commands += 1
        self.channels += len(channels)


@frozen
class _CountedLink:
    _link: Link
    _asked: Asked

    async def subscribe(self, channels: Sequence[str], *, after: str | None = None) -> None:
        self._asked.note(channels)
        await self._link.subscribe(channels, after=after)

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        self._asked.note(channels)
        await self._link.unsubscribe(channels)

    async def send(self, frames: Sequence[Frame]) -> None:
        await self._link.send(frames)

    def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        return self._link.receive()

    async def aclose(self) -> None:
        await self._link.aclose()


@define
class _CountedTransport:
    _transport: Transport
    asked: Asked = field(factory=Asked)

    @property
    def traits(self) -> Traits:
        return self._transport.traits

    async def open(self) -> Link:
        self.asked.opened += 1
        return _CountedLink(await self._transport.open(), self.asked)


@define
class Stalls:
    """How late a task was that asked for its turn each millisecond, in seconds."""

    longest: float = 0.0  # by the clock: other processes hold it up as well
    held: float = 0.0  # by the processor time of this process

    async def watch(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due, used = loop.time() + TICK_S, time.process_time()
            await asyncio.sleep(TICK_S)
            self.longest = max(self.longest, loop.time() - due)
            self.held = max(self.held, time.process_time() - used)


@asynccontextmanager
async def _watched() -> AsyncGenerator[Stalls]:
    stalls = Stalls()
    watching = asyncio.create_task(stalls.watch())
    try:
        yield stalls
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


def _ignore(_: Any) -> None:  # noqa: ANN401 -- a sink takes any event
    pass


@define
class Sockets:
    """The pod's connections."""

    gaps: int = 0

    def on_gap(self, _: Gap) -> None:
        """A gap was reported to a connection."""
        self.gaps += 1

    async def come(self, pod: BaseBackplane, number: int, name: str = "connection") -> None:
        """Attach a connection with its targets; return once all is heard."""
        name = f"{name}-{number}"
        await pod.attach(name, _ignore, on_gap=self.on_gap)
        for part in range(TARGETS_EACH):
            assert await pod.associate(name, Target("room", f"{number}-{part}"))


async def _fill(pod: BaseBackplane, sockets: Sockets, numbers: range) -> None:
    for start in range(0, len(numbers), 1_000):
        await asyncio.gather(*[sockets.come(pod, number) for number in numbers[start : start + 1_000]])


def _pod(job: Job, transport: Transport) -> DistributedBackplane:
    return DistributedBackplane(transport, channel=job.channel, routing="interest")


def _transport(job: Job) -> _CountedTransport:
    return _CountedTransport((NatsTransport if urlsplit(job.url).scheme == "nats" else RedisTransport)(job.url))


def _cut(port: int | None) -> None:
    """Cut this process's connections to that port, as a proxy that dies would."""
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError), socket.socket(fileno=os.dup(int(descriptor.name))) as found:
            if found.family == socket.AF_INET and found.getpeername()[1] == port:
                found.shutdown(socket.SHUT_RDWR)


async def _reconnect(job: Job) -> dict[str, Any]:
    transport, sockets, rounds = _transport(job), Sockets(), list[dict[str, float]]()
    async with _pod(job, transport) as pod:
        await _fill(pod, sockets, job.connections)
        for _ in range(job.rounds):
            await asyncio.sleep(5.5)  # a link that lived for so long was a good one: a short wait before the next
            gc.collect()
            asked = Asked(transport.asked.commands, transport.asked.channels)
            sockets.gaps = 0
            cpu_s = time.process_time()
            async with _watched() as stalls:
                began_at = time.perf_counter()
                _cut(urlsplit(job.url).port)
                await pod.wait_for_state("degraded", timeout_s=_DEADLINE_S)
                await pod.wait_for_state("live", timeout_s=_DEADLINE_S)
                took_s = time.perf_counter() - began_at
            assert sockets.gaps == len(job.connections), "each has one gap, before the pod is live"
            rounds.append(
                {
                    "seconds": took_s,
                    "cpu_seconds": time.process_time() - cpu_s,
                    "stall_ms": 1_000 * stalls.longest,
                    "held_ms": 1_000 * stalls.held,
                    "commands": transport.asked.commands - asked.commands,
                    "channels": transport.asked.channels - asked.channels,
                }
            )
    return {"rounds": rounds}


async def _at_once(job: Job) -> dict[str, Any]:
    transport = _transport(job)
    async with _pod(job, transport) as pod:
        await pod.attach("c1", _ignore)
        asked = transport.asked.commands
        began_at = time.perf_counter()
        targets = [Target("room", str(number)) for number in range(job.targets)]
        assert all(await asyncio.gather(*[pod.associate("c1", target) for target in targets]))
        return {"commands": transport.asked.commands - asked, "seconds": time.perf_counter() - began_at}


async def _churn(job: Job) -> dict[str, Any]:
    transport, sockets = _transport(job), Sockets()
    async with _pod(job, transport) as pod:
        asked = transport.asked.commands
        numbers = iter(job.connections)

        async def come_and_go() -> None:
            for number in numbers:
                await sockets.come(pod, number)
                await pod.detach(f"connection-{number}")

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(come_and_go())
        # Each is gained and lost.
        return {
            "edges": 2 * (1 + TARGETS_EACH) * len(job.connections),
            "commands": transport.asked.commands - asked,
            "channels": transport.asked.channels,
        }


async def _reload(job: Job) -> dict[str, Any]:
    """Each is gone for as long as the others of its thousand take to go: some 0.1 s."""
    transport, sockets, numbers = _transport(job), Sockets(), job.connections
    async with _pod(job, transport) as pod:
        await _fill(pod, sockets, numbers)
        asked = Asked(transport.asked.commands, transport.asked.channels)
        for start in range(0, len(numbers), 1_000):
            part = numbers[start : start + 1_000]
            for number in part:
                await pod.detach(f"connection-{number}")
            await asyncio.sleep(0.1)
            await asyncio.gather(*[sockets.come(pod, number, "reloaded") for number in part])
        await asyncio.sleep(1.5)  # nothing lingers any more
        return {
            "reloads": len(numbers),
            "commands": transport.asked.commands - asked.commands,
            "channels_per_reload": (transport.asked.channels - asked.channels) / len(numbers),
        }


_WORK: Final = {"reconnect": _reconnect, "at_once": _at_once, "churn": _churn, "reload": _reload}


async def _do(job: Job) -> None:
    say("done", **await _WORK[job.work](job))


WORKER: Final = Worker(Job, {"do": _do})
