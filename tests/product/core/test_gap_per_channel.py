"""A gap lasts, for each channel, until that channel is heard: not until the first frame of a new link."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from backplane_core import DistributedBackplane, Frame, Gap, Link, Lost, Target
from backplane_core.testing import MemoryBroker, MemoryTransport
from backplane_core.testing.memory import MemoryLink

from tests.support.fleets import MemoryFleet
from tests.support.waiting import until

LATE, EARLY = Target.user("late"), Target.user("early")


class OneByOneLink(MemoryLink):
    """Takes a batch of subscriptions one by one, as a NATS server does, and some of them late."""

    asked: asyncio.Event
    release: asyncio.Event
    flows: asyncio.Event

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        async for batch in super().receive():
            await self.flows.wait()
            yield batch

    async def subscribe(self, channels: Sequence[str]) -> None:
        late = [channel for channel in channels if channel.endswith(":late")]
        await super().subscribe([channel for channel in channels if channel not in late])
        if late:
            self.asked.set()
            await self.release.wait()
            await super().subscribe(late)


class OneByOneTransport(MemoryTransport):
    """Opens such links; `release` lets the late ones be heard, and without `flows` all frames stay on their way."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.asked, self.release = asyncio.Event(), asyncio.Event()
        self.release.set()
        self.flows = asyncio.Event()
        self.flows.set()

    async def open(self) -> Link:
        link = await super().open()
        assert isinstance(link, MemoryLink)
        link.__class__ = OneByOneLink
        assert isinstance(link, OneByOneLink)
        link.asked, link.release, link.flows = self.asked, self.release, self.flows
        return link


@pytest.fixture
async def fleet() -> Any:
    fleet = MemoryFleet("interest")
    async with fleet.stack:
        yield fleet


class Stream:
    """What a `connection()` brought: events and gaps, in the order of its stream."""

    def __init__(self) -> None:
        self.items: list[object] = []

    @property
    def gaps(self) -> list[Gap]:
        return [item for item in self.items if isinstance(item, Gap)]

    async def has(self, *events: object) -> None:
        await until(lambda: [it for it in self.items if not isinstance(it, Gap)] == [*events], f"{events}")


async def queue(fleet: MemoryFleet, pod: DistributedBackplane, conn_id: str, target: Target) -> Stream:
    stream = Stream()
    connection = await fleet.stack.enter_async_context(pod.connection(conn_id, target, on_gap=stream.items.append))

    async def read() -> None:
        async for event in connection:
            stream.items.append(event.value)

    reading = asyncio.create_task(read())
    fleet.stack.callback(reading.cancel)
    return stream


def covered(gaps: Sequence[Gap], moment: float) -> bool:
    return any(gap.since <= moment <= gap.until for gap in gaps)


async def test_a_frame_on_one_channel_ends_no_gap_of_another(fleet: MemoryFleet) -> None:
    here, transport = await fleet.pod(), OneByOneTransport(fleet.broker)
    there = await fleet.pod(transport=transport)
    early, late = await queue(fleet, there, "c1", EARLY), await queue(fleet, there, "c2", LATE)
    transport.release.clear()
    transport.asked.clear()
    fleet.broker.drop_links()
    await here.wait_for_state("degraded", timeout_s=5)
    await here.wait_for_state("live", timeout_s=5)
    async with asyncio.timeout(5):
        await transport.asked.wait()
    await here.publish(EARLY, "heard")
    await here.publish(Target.everyone(), "heard by all")
    await early.has("heard", "heard by all")
    await late.has("heard by all")
    missed_at = time.time()
    await here.publish(LATE, "missed")
    await here.flush(timeout_s=5)
    assert there.state != "live"
    transport.release.set()
    await there.wait_for_state("live", timeout_s=5)
    await here.publish(LATE, "after")
    await late.has("heard by all", "after")
    assert covered(late.gaps, missed_at)
    assert [isinstance(item, Gap) for item in late.items] == [True, False, True, False]


async def test_the_gap_of_a_channel_comes_before_its_first_newer_event_though_others_are_not_heard_yet(
    fleet: MemoryFleet,
) -> None:
    """Many channels: what lies between the first batch and the last is reported before events that come after it."""
    here, transport = await fleet.pod(), OneByOneTransport(fleet.broker)
    there = await fleet.pod(transport=transport)
    early, late = await queue(fleet, there, "c1", EARLY), await queue(fleet, there, "c2", LATE)
    transport.release.clear()
    fleet.broker.drop_links()
    await here.wait_for_state("degraded", timeout_s=5)
    await here.wait_for_state("live", timeout_s=5)
    await until(lambda: fleet.broker.subscriber_count("backplane:@user:early") == 1, "the early channel is heard")
    await here.publish(EARLY, "first")
    await early.has("first")
    assert isinstance(early.items[0], Gap)
    assert late.items == []
    transport.release.set()
    await there.wait_for_state("live", timeout_s=5)
    await here.publish(LATE, "first")
    await late.has("first")
    assert [isinstance(item, Gap) for item in late.items] == [True, False]


async def test_what_was_on_its_way_when_the_last_channel_was_heard_is_covered_where_an_earlier_one_was_reported(
    fleet: MemoryFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its own notice and the last confirmation, a connection's events may be on their way, and get lost."""
    here, transport = await fleet.pod(), OneByOneTransport(fleet.broker)
    there = await fleet.pod(transport=transport, max_event_bytes=100)
    early = await queue(fleet, there, "c1", EARLY)
    await queue(fleet, there, "c2", LATE)
    monkeypatch.setattr("backplane_core._link.subscriber.SUBSCRIBE_BATCH", 1)  # so that each is confirmed by itself
    transport.release.clear()
    fleet.broker.drop_links()
    await here.wait_for_state("degraded", timeout_s=5)
    await here.wait_for_state("live", timeout_s=5)
    await until(lambda: fleet.broker.subscriber_count("backplane:@user:early") == 1, "the early channel is heard")
    await here.publish(EARLY, "first")
    await early.has("first")
    (reported,) = early.gaps
    transport.flows.clear()
    await until(lambda: time.time() > reported.until, "a moment that was not reported")
    missed_at = time.time()
    await here.publish(EARLY, "x" * 1_000)
    await here.flush(timeout_s=5)
    transport.release.set()
    await there.wait_for_state("live", timeout_s=5)
    transport.flows.set()
    await until(lambda: early.gaps[-1].cause == "sequence", "the event that is too large is reported as missing")
    assert covered(early.gaps, missed_at)


@pytest.mark.parametrize("how", ["associate", "connection"])
async def test_who_associates_while_others_are_notified_of_a_reconnect_misses_nothing_silently(
    fleet: MemoryFleet, how: str
) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    asked: list[float] = []
    got: list[object] = []
    gaps: list[Gap] = []
    tasks: list[asyncio.Task[object]] = []

    async def come_back() -> None:
        target = Target.user("returns")
        asked.append(time.time())
        if how == "associate":
            await there.attach("returns", got.append, on_gap=gaps.append)
            confirmed = await there.associate("returns", target)
            if confirmed:
                asked[0] = time.time()
            return
        async with there.connection("returns", target, on_gap=gaps.append) as connection:
            asked[0] = time.time()  # it is heard, or a gap says since when it was not
            async for event in connection:
                got.append(event.value)  # noqa: PERF401 -- as they come

    def slow(_: Gap) -> None:
        if not tasks:
            tasks.append(asyncio.create_task(come_back()))
        time.sleep(0.001)

    for number in range(200):
        await there.attach(f"c{number}", print, on_gap=slow)
    fleet.broker.drop_links()
    await here.wait_for_state("degraded", timeout_s=5)
    await here.wait_for_state("live", timeout_s=5)
    published: list[tuple[int, float]] = []
    for number in range(400):
        await here.publish(Target.user("returns"), number)
        await here.flush(timeout_s=5)
        published.append((number, time.time()))
        await asyncio.sleep(0.001)
    await here.publish(Target.user("returns"), "last")
    await until(lambda: "last" in got, "the last event")
    assert tasks
    silent = [number for number, at in published if number not in got and at >= asked[0] and not covered(gaps, at)]
    assert silent == []
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
