"""What a question to all pods costs next to an event to all pods, and next to what other libraries offer for it."""

from __future__ import annotations

import asyncio
import time
import uuid
from abc import abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, ClassVar, Final, Protocol

from attrs import define, field, frozen
from backplane_core import BaseBackplane, Target, connect
from backplane_testservers import open_broker

from bench.findings import Findings
from bench.libraries import library
from bench.measure import BUSES, NAMES, Measure, Progress, option
from bench.spreads import ratios, shown, spread
from bench.subjects.python_socketio import subscribed

__all__ = ["Figures", "Survey"]

_USER: Final = Target.user("u1")
_WARM: Final = 5
_SAID: Final[Mapping[str, str]] = {
    "count": "`fleet.count`",
    "publish": "one event",
    "channels": "channels_redis, by hand",
    "socketio": "python-socketio, one client",
}

_METHOD: Final = """\
{pods} pods in one process, each of which has a connection of one user, and another pod that asks them: how many
connections has this user, on which pods (`fleet.count`)? One question after the other, {times} of them in each of
{rounds} rounds. Next to it one event to the user, until the connections of all pods have it. Counted is the processor
time of all pods together, as they share the process, and the time until the last answer or copy.

Neither python-socketio nor Channels lets servers ask each other. What comes nearest there: with channels_redis, by
hand, {pods} layers hear a question that is sent to a group, and each sends an answer to the channel of the one that
asks, which has to know how many there will be. With python-socketio, an event to one client of another server, whose
acknowledgement comes back over Redis: one answer, and no way to ask more than one client."""


_NOTES: Final = (
    """An answer of ours goes to the channel that all pods hear, so that each pod reads the answers of all others: what
a question costs all pods together grows with the square of their number. By hand an answer is read by the one that
asked. In return nobody has to know beforehand how many pods there are, and a pod that is silent is named.""",
)


@frozen(kw_only=True)
class Round:
    """One round of one way."""

    ms: float  # each
    cpu_us: float  # each, of all pods together


@frozen(kw_only=True)
class Figures:
    """What is measured."""

    pods: int
    times: int
    rounds: int
    by_bus: Mapping[str, Mapping[str, Sequence[Round]]] = field(repr=False)  # and by way


@frozen(kw_only=True)
class Survey(Measure[Figures]):
    """What a question to all pods costs next to an event to all of them, and next to other libraries' nearest."""

    name: ClassVar = "survey"
    title: ClassVar = "A question to all pods"
    figures: ClassVar = Figures
    quick: ClassVar = {"pods": 8, "times": 20, "rounds": 1}
    usual_s: ClassVar = 60

    pods: int = option(32, "that answer")
    times: int = option(200, "questions of each round, and as many events")
    rounds: int = option(5, "in each of which all ways take turns")
    ways: tuple[str, ...] = option(tuple(_SAID), "which ways; other libraries have one over Redis only", _SAID)
    bus: str = option("both", "which broker", BUSES)

    def measure(self, progress: Progress) -> Figures:
        """Let all ways take turns on one broker after the other."""
        ways = {bus: [way for way in self.ways if way in _OURS or bus == "redis"] for bus in BUSES[self.bus]}
        progress.expect(self.rounds * sum(map(len, ways.values())))
        found: dict[str, dict[str, list[Round]]] = {}
        for bus in BUSES[self.bus]:
            by_way = found[bus] = {way: [] for way in ways[bus]}
            with open_broker(bus) as broker:
                for number in range(1, self.rounds + 1):
                    for way, rounds in by_way.items():
                        progress.step(f"{NAMES[bus]}, round {number} of {self.rounds}: {_SAID[way]}")
                        rounds.append(asyncio.run(self._round(way, broker.url)))
        return Figures(pods=self.pods, times=self.times, rounds=self.rounds, by_bus=found)

    async def _round(self, way: str, url: str) -> Round:
        channel = f"bench:{uuid.uuid4().hex}"
        async with _WAYS[way](url, channel, self.pods) as asking:
            for _ in range(_WARM):
                await asking.ask()
            begun, used = time.perf_counter(), time.process_time()
            for _ in range(self.times):
                await asking.ask()
            took, spent = time.perf_counter() - begun, time.process_time() - used
        return Round(ms=1e3 * took / self.times, cpu_us=1e6 * spent / self.times)

    @classmethod
    def findings(cls, figures: Figures) -> Findings:
        """Return the table."""
        rows: list[tuple[str, ...]] = []
        for bus, by_way in figures.by_bus.items():
            event = [one.cpu_us for one in by_way.get("publish", ())]
            for way, rounds in by_way.items():
                ms, cpu_us = [one.ms for one in rounds], [one.cpu_us for one in rounds]
                against = f"{shown(ratios(cpu_us, event), 1)} x" if event and way != "publish" else ""
                answers = "" if way == "publish" else str(1 if way == "socketio" else figures.pods)
                figure = shown(spread(ms), 2), shown(spread(cpu_us), 0)
                rows.append((f"{NAMES[bus]}: {_SAID[way]}", answers, *figure, against))
        return Findings(
            method=_METHOD.format(pods=figures.pods, times=figures.times, rounds=figures.rounds),
            columns=("", "answers", "ms", "processor, µs", "against one event"),
            rows=rows,
            notes=_NOTES,
        )


class Asking(Protocol):
    """One way to ask."""

    @abstractmethod
    async def ask(self) -> None:
        """Ask, and return once all answers are there.

        Raises:
            RuntimeError: They are not what they should be.
        """


@asynccontextmanager
async def _pods(url: str, channel: str, pods: int) -> AsyncGenerator[list[BaseBackplane]]:
    """Open one pod that asks, and so many that each have a connection."""
    async with AsyncExitStack() as stack:
        found = [await stack.enter_async_context(connect(url, channel=channel)) for _ in range(pods + 1)]
        for number, pod in enumerate(found[1:]):
            await pod.attach(f"c{number}", _ignore)
            await pod.associate(f"c{number}", _USER)
        while len((await found[0].fleet.pods()).by_pod) <= pods:
            pass  # all are known from here on
        yield found


def _ignore(_: object) -> None:
    pass


@define
class _Count:
    pod: BaseBackplane
    pods: int

    async def ask(self) -> None:
        answers = await self.pod.fleet.count(_USER, timeout_s=30)
        if answers.total != self.pods or not answers.complete:
            raise RuntimeError(f"{answers.total} of {self.pods} connections were counted")


@asynccontextmanager
async def _counting(url: str, channel: str, pods: int) -> AsyncGenerator[Asking]:
    async with _pods(url, channel, pods) as found:
        yield _Count(found[0], pods)


@define
class _Publish:
    pod: BaseBackplane
    pods: int
    arrived: asyncio.Event = field(factory=asyncio.Event)
    left: int = 0

    def take(self, _: object) -> None:
        self.left -= 1
        if not self.left:
            self.arrived.set()

    async def ask(self) -> None:
        self.left = self.pods
        self.arrived.clear()
        await self.pod.publish(_USER, {"n": 1})
        await self.arrived.wait()


@asynccontextmanager
async def _publishing(url: str, channel: str, pods: int) -> AsyncGenerator[Asking]:
    async with _pods(url, channel, pods) as found:
        asking = _Publish(found[0], pods)
        for number, pod in enumerate(found[1:]):
            await pod.attach(f"c{number}", asking.take)  # in place of the other
        yield asking


@define
class _Layers:
    asker: Any
    reply: str
    pods: int

    async def ask(self) -> None:
        await self.asker.group_send("pods", {"type": "how.many", "reply": self.reply})
        answers = [await self.asker.receive(self.reply) for _ in range(self.pods)]
        if sum([one["count"] for one in answers]) != self.pods:
            raise RuntimeError("not all connections were counted")


@asynccontextmanager
async def _layers(url: str, channel: str, pods: int) -> AsyncGenerator[Asking]:
    layers = [
        library("channels_redis.pubsub").RedisPubSubChannelLayer(hosts=[url], prefix=channel) for _ in range(pods + 1)
    ]
    asker, *others = layers
    reply = await asker.new_channel()
    answering: list[asyncio.Task[None]] = []
    for layer in others:
        own = await layer.new_channel()
        await layer.group_add("pods", own)
        answering.append(asyncio.create_task(_answer(layer, own)))
    try:
        yield _Layers(asker, reply, pods)
    finally:
        for task in answering:
            task.cancel()
        await asyncio.wait(answering)
        for layer in layers:
            await layer.flush()


async def _answer(layer: Any, own: str) -> None:  # noqa: ANN401 -- of channels_redis
    while True:
        question = await layer.receive(own)
        await layer.send(question["reply"], {"type": "so.many", "count": 1})


@define
class _OneClient:
    manager: Any
    sid: str
    acknowledged: asyncio.Event = field(factory=asyncio.Event)

    async def ask(self) -> None:
        self.acknowledged.clear()
        await self.manager.emit("how_many", {}, room=self.sid, callback=self._take)
        await self.acknowledged.wait()

    def _take(self, *_: object) -> None:
        self.acknowledged.set()


@define
class _EngineSocket:
    """Stands where Engine.IO's WebSocket stands, of a client that acknowledges what it gets."""

    manager: Any
    closed: bool = False
    sid: str = ""
    answering: set[asyncio.Task[None]] = field(factory=set[asyncio.Task[None]])

    async def send(self, packet: Any) -> None:  # noqa: ANN401 -- an Engine.IO packet
        number = int(packet.data[1 : packet.data.index("[")])
        task = asyncio.ensure_future(self.manager.trigger_callback(self.sid, number, [1]))
        self.answering.add(task)
        task.add_done_callback(self.answering.discard)


@asynccontextmanager
async def _one_client(url: str, channel: str, pods: int) -> AsyncGenerator[Asking]:
    del pods
    managers = [library("socketio").AsyncRedisManager(url, channel=channel) for _ in range(2)]
    servers = [library("socketio").AsyncServer(client_manager=one, async_mode="asgi") for one in managers]
    for manager in managers:
        manager.initialize()
    socket = _EngineSocket(managers[1])
    servers[1].eio.sockets["c1"] = socket
    socket.sid = await managers[1].connect("c1", "/")
    try:
        await subscribed(url, channel, 2)
        yield _OneClient(managers[0], socket.sid)
    finally:
        for manager in managers:
            manager.thread.cancel()
            await asyncio.wait({manager.thread})
            await manager.pubsub.aclose()
            await manager.redis.aclose()


class Way(Protocol):
    """Opens one way to ask so many pods."""

    def __call__(self, url: str, channel: str, pods: int, /) -> AbstractAsyncContextManager[Asking]:
        """Return the way, open as long as it is entered."""
        ...


_OURS: Final = ("count", "publish")
_WAYS: Final[Mapping[str, Way]] = {
    "count": _counting,
    "publish": _publishing,
    "channels": _layers,
    "socketio": _one_client,
}
