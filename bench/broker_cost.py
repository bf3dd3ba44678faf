"""What the broker pays: processor time per event and delivery, memory per subscription, beats.

uv run bench/broker_cost.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import threading
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import linear_regression, median
from typing import Any, Final

# Run as a script, this folder is on the path and the one above it is not.
sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil  # type: ignore[import-untyped]  # it has no py.typed
from attrs import frozen
from backplane_core import BaseBackplane, DistributedBackplane, Frame, Link, Target, Transport, connect
from backplane_core._protocol.frame import build_frame, frame_prefix
from backplane_nats import NatsTransport
from backplane_redis import RedisTransport
from backplane_testservers import Kind, OwnBroker, open_own_broker

from bench.findings import Findings, Plot, Progress

__all__ = ["measure"]

BUSES: Final[tuple[Kind, ...]] = ("redis", "nats")
TRANSPORTS: Final[dict[str, Callable[[str], Transport]]] = {"redis": RedisTransport, "nats": NatsTransport}
EVENT_BYTES: Final = 200
BATCH: Final = 64
MOST_EVENTS: Final = 100_000
SUBSCRIBE_BATCH: Final = 512
IDLE_PROBE_S: Final = 0.5
PUBLISH_EVERY_S: Final = 2.0
"""Slower than `beat_s`: a beat follows each event."""

ORIGINS: Final = 1_000
"""Pods of which one hears beats: a table of that size is looked into."""

WAYS: Final = {"busy": BATCH, "one by one": 1}
RHYTHMS: Final = {
    f"idle, probe_interval_s={IDLE_PROBE_S}": None,
    f"each publishes every {PUBLISH_EVERY_S:g} s": PUBLISH_EVERY_S,
}


@frozen(kw_only=True)
class Sizes:
    """How much is done.

    Args:
        deliveries: Per number of readers, in batches: the clock of processor time ticks in hundredths of a second.
        single_events: Per number of readers, one by one.
        rounds: Of all, taking turns.
        subscriptions: Of one link.
        beats: That one pod hears.
        readers: How many links hear an event.
        pods: How many beat.
        watch_s: How long a fleet's beats are watched, in seconds.
    """

    deliveries: int = 300_000
    single_events: int = 4_000
    rounds: int = 3
    subscriptions: int = 100_000
    beats: int = 50_000
    readers: Sequence[int] = (1, 2, 4, 8, 16, 32)
    pods: Sequence[int] = (8, 16, 32)
    watch_s: float = 10


QUICK: Final = Sizes(
    deliveries=640, single_events=100, rounds=1, subscriptions=2_000, beats=1_000, readers=(1, 4), pods=(4,), watch_s=1
)


def frame_of(number: int) -> bytes:
    """Return a frame as a pod sends it, with an event of 200 bytes."""
    text = json.dumps({"n": number, "pad": ""}).encode()
    event = text[:-2] + b"x" * (EVENT_BYTES - len(text)) + text[-2:]
    return build_frame(frame_prefix("6f1c" * 8), (Target.user("u1"),), event, number + 1, number or None)


def cpu_s(broker: OwnBroker) -> float:
    """Return the processor time that the broker has used, in seconds."""
    used = psutil.Process(broker.pid).cpu_times()
    return float(used.user + used.system)


def rss(broker: OwnBroker) -> int:
    """Return the broker's resident memory in bytes."""
    return int(psutil.Process(broker.pid).memory_info().rss)


@asynccontextmanager
async def opened(broker: OwnBroker) -> AsyncGenerator[Link]:
    """A link of ours, with no backplane above it."""
    link = await TRANSPORTS[broker.kind](broker.url).open()
    try:
        yield link
    finally:
        await link.aclose()


async def read(link: Link, goal: int) -> None:
    """Return once so many frames came."""
    got = 0
    async for batch in link.receive():
        got += len(batch)
        if got >= goal:
            return


async def answers_only(link: Link) -> None:
    """Read what confirms; this link hears nothing."""
    async for _ in link.receive():
        pass


async def per_event(broker: OwnBroker, readers: int, events: int, batch: int) -> float:
    """Return the broker's microseconds per event that so many links hear."""
    channel = f"bench:{uuid.uuid4().hex}"
    frames: list[Frame] = [(channel, frame_of(number)) for number in range(events)]
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        sender = await stack.enter_async_context(opened(broker))
        answers = tasks.create_task(answers_only(sender))
        reading: list[asyncio.Task[None]] = []
        for _ in range(readers):
            link = await stack.enter_async_context(opened(broker))
            reading.append(tasks.create_task(read(link, events)))
            await link.subscribe([channel])
        before = cpu_s(broker)
        for at in range(0, events, batch):
            await sender.send(frames[at : at + batch])
        await asyncio.gather(*reading)
        used = cpu_s(broker) - before
        answers.cancel()
    return used / events * 1e6


async def per_subscription(broker: OwnBroker, count: int) -> tuple[float, float, float]:
    """Return what a subscription takes of the broker.

    Returns:
        Bytes for the first of its channel, bytes for the second, microseconds.
    """
    channels = [f"backplane:@user:u{number:08}" for number in range(count)]
    sizes, before = [rss(broker)], cpu_s(broker)
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        reading: list[asyncio.Task[None]] = []
        for _ in range(2):
            link = await stack.enter_async_context(opened(broker))
            reading.append(tasks.create_task(answers_only(link)))
            for at in range(0, count, SUBSCRIBE_BATCH):
                await link.subscribe(channels[at : at + SUBSCRIBE_BATCH])
            sizes.append(rss(broker))
        used = cpu_s(broker) - before
        for task in reading:
            task.cancel()
    return (sizes[1] - sizes[0]) / count, (sizes[2] - sizes[1]) / count, used / (2 * count) * 1e6


def beats(channel: str, count: int) -> Iterator[list[Frame]]:
    """Yield batches of beats, of a thousand pods in turn."""
    frames: list[Frame] = []
    routing = b',"routing":"broadcast","lanes":1'
    for number in range(count):
        origin, seq = f"{number % ORIGINS:032x}", number // ORIGINS + 1
        beat = build_frame(
            frame_prefix(origin), (Target.connection(origin),), b"null", seq, seq - 1 or None, None, routing
        )
        frames.append((channel, beat))
    for at in range(0, count, BATCH):
        yield frames[at : at + BATCH]


async def per_beat(broker: OwnBroker, count: int) -> float:
    """Return a pod's microseconds for each beat of another one. The beats come from another thread."""
    channel = f"bench:{uuid.uuid4().hex}"

    async def send() -> None:
        async with opened(broker) as link, asyncio.TaskGroup() as tasks:
            answers = tasks.create_task(answers_only(link))
            for batch in beats(channel, count):
                await link.send(batch)
            answers.cancel()

    sender = threading.Thread(target=lambda: asyncio.run(send()))
    async with connect(broker.url, channel=channel) as pod:
        assert isinstance(pod, DistributedBackplane)
        before = time.thread_time()
        sender.start()
        while pod.stats().received < count:  # noqa: ASYNC110 -- a counter is all that tells of beats
            await asyncio.sleep(0.02)
        used = time.thread_time() - before
        await asyncio.to_thread(sender.join)
    return used / count * 1e6


async def fleet_beats(
    broker: OwnBroker, pods: int, watch_s: float, publish_every_s: float | None = None
) -> tuple[float, float, float]:
    """Return the frames per second that each pod hears, and the shares of a core of the broker and of a pod.

    Args:
        broker: Nobody else uses it.
        pods: How many there are.
        watch_s: For how long to watch, in seconds.
        publish_every_s: How often each publishes to a target that no pod holds, in seconds; None: never.
    """
    channel = f"bench:{uuid.uuid4().hex}"
    probe_s = IDLE_PROBE_S if publish_every_s is None else 15
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        fleet = [
            await stack.enter_async_context(
                connect(broker.url, channel=channel, routing="interest", probe_interval_s=probe_s)
            )
            for _ in range(pods)
        ]

        async def publish(pod: BaseBackplane, every_s: float) -> None:
            await asyncio.sleep(random.random() * every_s)  # noqa: S311 -- not all at once
            while True:
                await pod.publish(Target.user("nobody"), 1)
                await asyncio.sleep(every_s)

        publishing = [tasks.create_task(publish(pod, publish_every_s)) for pod in fleet if publish_every_s]
        await asyncio.sleep(min(2, watch_s))
        heard, before, ours, began = fleet[0].stats(), cpu_s(broker), time.thread_time(), time.monotonic()
        await asyncio.sleep(watch_s)
        took, now = time.monotonic() - began, fleet[0].stats()
        used, ours = cpu_s(broker) - before, time.thread_time() - ours
        for task in publishing:
            task.cancel()
    return (now.received + now.echoed - heard.received - heard.echoed) / took, used / took, ours / took / pods


def line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return what the first one costs before any reader, and what each reader adds."""
    fit = linear_regression(*zip(*points, strict=True))
    return fit.intercept, fit.slope


async def measure_broker(kind: Kind, progress: Progress, sizes: Sizes) -> dict[str, Any]:
    """Measure one kind of broker."""
    found: dict[str, Any] = {way: {readers: [] for readers in sizes.readers} for way in WAYS}
    with open_own_broker(kind) as broker:
        for turn in range(sizes.rounds):
            for readers in sizes.readers:
                for way, batch in WAYS.items():
                    progress(f"{kind}: round {turn + 1} of {sizes.rounds}, {readers} readers, {way}")
                    events = min(sizes.deliveries // readers, MOST_EVENTS) if batch > 1 else sizes.single_events
                    found[way][readers].append(await per_event(broker, readers, events, batch))
        progress(f"{kind}: beats")
        found["beat_us"] = median([await per_beat(broker, sizes.beats) for _ in range(sizes.rounds)])
        for rhythm, every_s in RHYTHMS.items():
            found[rhythm] = {}
            for pods in sizes.pods:
                progress(f"{kind}: {pods} pods, {rhythm}")
                found[rhythm][pods] = await fleet_beats(broker, pods, sizes.watch_s, every_s)
    with open_own_broker(kind) as broker:
        progress(f"{kind}: {sizes.subscriptions:,} subscriptions")
        found["subscription"] = await per_subscription(broker, sizes.subscriptions)
    return found


def measure(progress: Progress, *, quick: bool = False) -> Findings:
    """Measure what events, subscriptions and beats cost Redis and NATS."""
    sizes = QUICK if quick else Sizes()
    raw: dict[str, Any] = {kind: asyncio.run(measure_broker(kind, progress, sizes)) for kind in BUSES}
    rows: list[list[str]] = []
    series: dict[str, list[tuple[float | str, float]]] = {}
    for kind, found in raw.items():
        for way in WAYS:
            points = [(float(readers), median(times)) for readers, times in found[way].items()]
            event, delivery = line(points)
            found[f"{way} line"] = event, delivery
            series[f"{kind}, {way}"] = list(points)
            rows.append([f"{kind}, {way}: broker per event, and per delivery", f"{event:.1f} µs", f"{delivery:.2f} µs"])
        first, second, subscribe = found["subscription"]
        what = f"{kind}: broker per subscription, the first of its channel, and the second"
        rows.append([what, f"{first:.0f} B, {second:.0f} B", f"{subscribe:.1f} µs"])
        rows.append([f"{kind}: a pod per beat of another", f"{found['beat_us']:.1f} µs", ""])
        rows += [
            [
                f"{kind}: {pods} pods, {rhythm}: heard by each; cores of the broker, of a pod",
                f"{rate:.1f}/s",
                f"{core:.2%}, {pod:.2%}",
            ]
            for rhythm in RHYTHMS
            for pods, (rate, core, pod) in found[rhythm].items()
        ]
    return Findings(
        key="broker-cost",
        title="What the broker pays",
        method=(
            "Links of ours without a backplane above them publish frames with a 200-byte event to one channel that 1 "
            f"to 32 others hear. *Busy*: {BATCH} frames per write. *One by one*: each is confirmed before the next. "
            "What counts is the processor time that the operating system books on the broker's process; the line "
            "through the medians gives its part per event and its part per delivery. Subscriptions are 100,000 "
            "channels of one link, then the same of a second one, by resident memory. Beats come from a thousand "
            "origins."
        ),
        columns=["what", "", ""],
        rows=rows,
        plots=[
            Plot(
                key="broker-cost",
                kind="lines",
                title="Processor time of the broker per event",
                x="subscribers of its channel",
                y="µs per event",
                series=series,
                log="xy",
            )
        ],
        notes=["NATS uses several threads, so its processor time may exceed the time that passed; Redis has one."],
        raw=raw,
    )


def _main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="see that it runs; the figures mean nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    findings = measure(lambda text: print(f"\r\033[K{text}", end="", file=sys.stderr), quick=arguments.quick)
    print(file=sys.stderr)
    width = max(len(row[0]) for row in findings.rows)
    for name, *cells in findings.rows:
        print(f"{name:<{width}}  " + "".join([f"{cell:>16}" for cell in cells]))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(findings.raw, indent=2) + "\n")


if __name__ == "__main__":
    _main()
