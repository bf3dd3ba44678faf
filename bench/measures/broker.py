"""What the broker pays: processor time per event and delivery, memory per subscription."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import linear_regression, median
from typing import ClassVar, Final

import psutil  # type: ignore[import-untyped]  # it has no py.typed
from attrs import frozen
from backplane_core import DistributedBackplane, Frame, Link, Target, connect
from backplane_core._protocol.frame import build_frame, frame_prefix
from backplane_nats import NatsTransport
from backplane_redis import RedisTransport
from backplane_testservers import Kind, OwnBroker, open_own_broker

from bench.events import nested
from bench.findings import Findings, Plot
from bench.measure import BUSES, NAMES, Measure, Progress, option

__all__ = ["BrokerCost", "BrokerFigures", "Figures"]

_BATCH: Final = 64
_MOST_EVENTS: Final = 100_000
_SUBSCRIBE_BATCH: Final = 512
_ORIGINS: Final = 1_000
"""Pods of which one hears beats: a table of that size is looked into."""

_WAYS: Final = {"busy": _BATCH, "one by one": 1}
_METHOD: Final = """\
Links of ours without a backplane above them publish frames with a 200-byte event to one channel that several others
hear. *Busy*: {batch} frames per write. *One by one*: each is confirmed before the next. What counts is the processor
time that the operating system books on the broker's process; the line through the medians gives its part per event
and its part per delivery. Subscriptions are {subscriptions:,} channels of one link, then the same of a second one, by
resident memory. Beats come from a thousand origins."""


@frozen(kw_only=True)
class BrokerFigures:
    """What one broker costs."""

    # Its microseconds per event, by way and number of readers, round by round.
    per_event_us: Mapping[str, Mapping[int, Sequence[float]]]
    beat_us: float  # a pod's microseconds per beat of another one
    subscription: tuple[float, float, float]  # bytes of the first one of its channel, and of the second; microseconds


@frozen(kw_only=True)
class Figures:
    """What is measured."""

    subscriptions: int  # of one link
    brokers: Mapping[str, BrokerFigures]  # by kind


@frozen(kw_only=True)
class BrokerCost(Measure[Figures]):
    """What the broker pays: processor time per event and delivery, memory per subscription."""

    name: ClassVar = "broker"
    title: ClassVar = "What the broker pays"
    figures: ClassVar = Figures
    quick: ClassVar = {
        "deliveries": 640,
        "events": 100,
        "rounds": 1,
        "subscriptions": 2_000,
        "beats": 1_000,
        "readers": (1, 4),
    }
    usual_s: ClassVar = 190

    # The clock of processor time ticks in hundredths of a second.
    deliveries: int = option(300_000, "per number of readers, in batches")
    events: int = option(4_000, "per number of readers, one by one")
    rounds: int = option(3, "in each of which all take turns")
    subscriptions: int = option(100_000, "of one link")
    beats: int = option(50_000, "that one pod hears")
    readers: tuple[int, ...] = option((1, 2, 4, 8, 16, 32), "how many links hear an event")
    bus: str = option("both", "which broker", BUSES)

    def measure(self, progress: Progress) -> Figures:
        """Measure what events, subscriptions and beats cost."""
        steps = self.rounds * len(self.readers) * len(_WAYS) + 2
        progress.expect(steps * len(BUSES[self.bus]))
        brokers: dict[str, BrokerFigures] = {}
        for bus in BUSES[self.bus]:
            brokers[bus] = asyncio.run(self._broker(bus, progress))
        return Figures(subscriptions=self.subscriptions, brokers=brokers)

    async def _broker(self, bus: Kind, progress: Progress) -> BrokerFigures:
        per_event: dict[str, dict[int, list[float]]] = {way: {one: [] for one in self.readers} for way in _WAYS}
        with open_own_broker(bus) as broker:
            for turn in range(self.rounds):
                for readers in self.readers:
                    for way, batch in _WAYS.items():
                        progress.step(f"{NAMES[bus]}: round {turn + 1} of {self.rounds}, {readers} readers, {way}")
                        events = min(self.deliveries // readers, _MOST_EVENTS) if batch > 1 else self.events
                        per_event[way][readers].append(await _per_event(broker, readers, events, batch))
            progress.step(f"{NAMES[bus]}: beats")
            beat_us = median([await _per_beat(broker, self.beats) for _ in range(self.rounds)])
        with open_own_broker(bus) as broker:
            progress.step(f"{NAMES[bus]}: {self.subscriptions:,} subscriptions")
            subscription = await _per_subscription(broker, self.subscriptions)
        return BrokerFigures(per_event_us=per_event, beat_us=beat_us, subscription=subscription)

    @classmethod
    def findings(cls, figures: Figures) -> Findings:
        """Return table and plot."""
        return Findings(
            method=_METHOD.format(batch=_BATCH, subscriptions=figures.subscriptions),
            columns=("what", "", ""),
            rows=[row for bus, found in figures.brokers.items() for row in _rows(NAMES[bus], found)],
            plots=[
                Plot(
                    key="broker",
                    kind="lines",
                    title="Processor time of the broker per event",
                    x="subscribers of its channel",
                    y="µs per event",
                    series={
                        f"{NAMES[bus]}, {way}": _points(found, way)
                        for bus, found in figures.brokers.items()
                        for way in _WAYS
                    },
                    log="xy",
                )
            ],
            notes=["NATS uses several threads, so its processor time may exceed the time that passed; Redis has one."],
        )


def _points(found: BrokerFigures, way: str) -> list[tuple[float, float]]:
    return [(float(readers), median(times)) for readers, times in found.per_event_us[way].items()]


def _rows(name: str, found: BrokerFigures) -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = []
    for way in _WAYS:
        # What an event costs before any reader, and what each reader adds.
        fit = linear_regression(*zip(*_points(found, way), strict=True))
        what = f"{name}, {way}: broker per event, and per delivery"
        rows.append((what, f"{fit.intercept:.1f} µs", f"{fit.slope:.2f} µs"))
    first, second, subscribe = found.subscription
    what = f"{name}: broker per subscription, the first of its channel, and the second"
    rows.append((what, f"{first:.0f} B, {second:.0f} B", f"{subscribe:.1f} µs"))
    rows.append((f"{name}: a pod per beat of another", f"{found.beat_us:.1f} µs", ""))
    return rows


def _frame_of(number: int) -> bytes:
    """Return a frame as a pod sends it."""
    event = json.dumps(nested(number, "u1"), separators=(",", ":")).encode()
    return build_frame(frame_prefix("6f1c" * 8), (Target.user("u1"),), event, number + 1, number or None)


def _cpu_s(broker: OwnBroker) -> float:
    """Return the processor time that the broker has used, in seconds."""
    used = psutil.Process(broker.pid).cpu_times()
    return float(used.user + used.system)


def _rss(broker: OwnBroker) -> int:
    """Return the broker's resident memory in bytes."""
    return int(psutil.Process(broker.pid).memory_info().rss)


@asynccontextmanager
async def _opened(broker: OwnBroker) -> AsyncGenerator[Link]:
    """A link of ours, with no backplane above it."""
    link = await (RedisTransport if broker.kind == "redis" else NatsTransport)(broker.url).open()
    try:
        yield link
    finally:
        await link.aclose()


async def _read(link: Link, goal: int) -> None:
    """Return once so many frames came."""
    got = 0
    async for batch in link.receive():
        got += len(batch)
        if got >= goal:
            return


async def _answers_only(link: Link) -> None:
    """Read what confirms; this link hears nothing."""
    async for _ in link.receive():
        pass


async def _per_event(broker: OwnBroker, readers: int, events: int, batch: int) -> float:
    """Return the broker's microseconds per event that so many links hear."""
    channel = f"bench:{uuid.uuid4().hex}"
    frames: list[Frame] = [(channel, _frame_of(number)) for number in range(events)]
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        sender = await stack.enter_async_context(_opened(broker))
        answers = tasks.create_task(_answers_only(sender))
        reading: list[asyncio.Task[None]] = []
        for _ in range(readers):
            link = await stack.enter_async_context(_opened(broker))
            reading.append(tasks.create_task(_read(link, events)))
            await link.subscribe([channel])
        before = _cpu_s(broker)
        for at in range(0, events, batch):
            await sender.send(frames[at : at + batch])
        await asyncio.gather(*reading)
        used = _cpu_s(broker) - before
        answers.cancel()
    return used / events * 1e6


async def _per_subscription(broker: OwnBroker, count: int) -> tuple[float, float, float]:
    """Return what a subscription takes of the broker.

    Returns:
        Bytes for the first of its channel, bytes for the second, microseconds.
    """
    channels = [f"backplane:@user:u{number:08}" for number in range(count)]
    sizes, before = [_rss(broker)], _cpu_s(broker)
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        reading: list[asyncio.Task[None]] = []
        for _ in range(2):
            link = await stack.enter_async_context(_opened(broker))
            reading.append(tasks.create_task(_answers_only(link)))
            for at in range(0, count, _SUBSCRIBE_BATCH):
                await link.subscribe(channels[at : at + _SUBSCRIBE_BATCH])
            sizes.append(_rss(broker))
        used = _cpu_s(broker) - before
        for task in reading:
            task.cancel()
    return (sizes[1] - sizes[0]) / count, (sizes[2] - sizes[1]) / count, used / (2 * count) * 1e6


def _beats(channel: str, count: int) -> Iterator[list[Frame]]:
    """Yield batches of beats, of a thousand pods in turn."""
    frames: list[Frame] = []
    routing = b',"routing":"broadcast","lanes":1'
    for number in range(count):
        origin, seq = f"{number % _ORIGINS:032x}", number // _ORIGINS + 1
        beat = build_frame(
            frame_prefix(origin), (Target.connection(origin),), b"null", seq, seq - 1 or None, None, routing
        )
        frames.append((channel, beat))
    for at in range(0, count, _BATCH):
        yield frames[at : at + _BATCH]


async def _per_beat(broker: OwnBroker, count: int) -> float:
    """Return a pod's microseconds for each beat of another one. The beats come from another thread."""
    channel = f"bench:{uuid.uuid4().hex}"

    async def send() -> None:
        async with _opened(broker) as link, asyncio.TaskGroup() as tasks:
            answers = tasks.create_task(_answers_only(link))
            for batch in _beats(channel, count):
                await link.send(batch)
            answers.cancel()

    sender = threading.Thread(target=lambda: asyncio.run(send()))
    async with connect(broker.url, channel=channel) as pod:
        assert isinstance(pod, DistributedBackplane)
        before = time.thread_time()
        sender.start()
        while pod.stats().received < count:  # noqa: ASYNC110 -- only a counter shows beats
            await asyncio.sleep(0.02)
        used = time.thread_time() - before
        await asyncio.to_thread(sender.join)
    return used / count * 1e6
