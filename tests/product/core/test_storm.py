"""Thousands of clients that come back at once, as their pod has died, are served in turns, and nobody else waits."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Final

import pytest
from attrs import define, field
from backplane_core import CaughtUp, DistributedBackplane, Event, Target
from backplane_core._log.pages import LogPages
from backplane_core._log.turns import AT_ONCE, PAGE
from backplane_core.testing import MemoryLog

from tests.product.core.test_durable import LogFleet
from tests.support.waiting import until

NEWS: Final = Target("topic", "news")
MISSED: Final = 3


@define
class Crowd:
    """Clients of a pod that has died, each with a target of its own, and what each gets where it comes back.

    Args:
        pod: Where they come back.
        last_id: What all of them got last.
        size: How many they are.
    """

    pod: DistributedBackplane
    last_id: str
    size: int
    got: dict[int, list[Any]] = field(factory=dict[int, list[Any]], init=False)
    replayed: int = field(default=0, init=False)

    def target(self, number: int) -> Target:
        return Target.user(f"u{number}")

    async def come_back(self) -> None:
        """Return once each has what it missed."""
        async with asyncio.TaskGroup() as group:
            for number in range(self.size):
                group.create_task(self.come_back_alone(number))

    async def come_back_alone(self, number: int) -> None:
        got = self.got[number] = []
        async with self.pod.connection(None, self.target(number), resume_from=self.last_id) as connection:
            async for item in connection.items(marks=True):
                if isinstance(item, CaughtUp):
                    return
                got.append(item.value if isinstance(item, Event) else item)
                self.replayed += 1

    def assert_whole(self, each: int = MISSED) -> None:
        """Each got exactly what it missed, in order."""
        assert self.got == {number: [[number, event] for event in range(each)] for number in range(self.size)}


@pytest.fixture
async def fleet() -> AsyncIterator[LogFleet]:
    fleet = LogFleet({"beat_s": 60.0}, MemoryLog())
    async with fleet.stack:
        yield fleet


async def crowd_of(fleet: LogFleet, pod: DistributedBackplane, size: int, each: int = MISSED) -> Crowd:
    """Return clients that missed so many events each, which the pod has read."""
    worker = await fleet.pod()
    await worker.publish(NEWS, "first")
    await worker.flush(timeout_s=30)
    await until(lambda: pod.stats().received > 0, "it is read")
    crowd = Crowd(pod, str(pod.last_event_id), size)
    for number in range(size):
        for event in range(each):
            await worker.publish(crowd.target(number), [number, event])
    await worker.flush(timeout_s=60)
    await until(lambda: pod.stats().received > size * each, "the pod has read all", 60)
    return crowd


async def test_many_that_come_at_once_are_served_from_memory_a_few_in_each_turn_of_the_loop(
    fleet: LogFleet, monkeypatch: pytest.MonkeyPatch, *, full: bool
) -> None:
    pod, other = await fleet.pod(), await fleet.pod()
    crowd = await crowd_of(fleet, pod, 10_000 if full else 1_000)
    reads = count_reads(monkeypatch)
    served: list[int] = []
    heard = 0
    async with pod.connection(None, NEWS) as news:
        coming = asyncio.create_task(crowd.come_back())
        while not coming.done():
            before = crowd.replayed
            await other.publish(NEWS, heard)
            async with asyncio.timeout(30):
                assert (await anext(news)).value == heard
            heard += 1
            served.append(crowd.replayed - before)
        await coming
    crowd.assert_whole()
    assert not reads.most, "the broker was asked"
    # An event takes some turns of the loop from one pod to the other; were they not served in turns, all were served
    # between two of them.
    assert heard > 20, "what others publish goes on meanwhile"
    assert max(served) < crowd.size * MISSED / 10


async def test_a_long_replay_leaves_the_loop_to_others_after_each_page(fleet: LogFleet) -> None:
    pod = await fleet.pod()
    crowd = await crowd_of(fleet, pod, 4, 20 * PAGE)
    coming = asyncio.create_task(crowd.come_back())
    most = 0
    while not coming.done():
        before = crowd.replayed
        await asyncio.sleep(0)
        most = max(most, crowd.replayed - before)
    await coming
    crowd.assert_whole(20 * PAGE)
    assert 0 < most <= AT_ONCE * (PAGE + 1)


@pytest.mark.parametrize("held", [8 * 1024 * 1024, 0], ids=["held", "forgotten meanwhile"])
async def test_what_memory_has_forgotten_is_read_by_a_few_at_a_time_while_others_publish(
    fleet: LogFleet,
    monkeypatch: pytest.MonkeyPatch,
    held: int,
    *,
    full: bool,
) -> None:
    monkeypatch.setattr("backplane_core._log.holds.HELD_BYTES", held)
    pod, other = await fleet.pod(resume_max_bytes=100_000, resume_concurrency=3), await fleet.pod()
    crowd = await crowd_of(fleet, pod, 10_000 if full and held else 1_000)
    assert pod.stats().replayable_events < crowd.size, "it holds the last of it"
    reads = count_reads(monkeypatch)
    heard = 0
    began = time.process_time()
    async with pod.connection(None, NEWS) as news:
        coming = asyncio.create_task(crowd.come_back())
        while not coming.done():
            await other.publish(NEWS, heard)
            async with asyncio.timeout(30):
                assert (await anext(news)).value == heard
            heard += 1
        await coming
    print(f"{crowd.size} clients: {time.process_time() - began:.1f} s of the processor")  # noqa: T201 -- not asserted
    crowd.assert_whole()
    assert not pod.stats().gaps
    assert reads.most == 3
    assert 0 < reads.longest <= 512
    assert heard > 150, "more is published meanwhile than memory holds"


async def test_a_client_that_goes_while_it_waits_for_its_turn_leaves_nothing(fleet: LogFleet) -> None:
    pod = await fleet.pod()
    crowd = await crowd_of(fleet, pod, 50)
    coming = [asyncio.create_task(crowd.come_back_alone(number)) for number in range(50)]
    await asyncio.sleep(0)
    for task in coming[10:40]:
        task.cancel()
    await asyncio.wait(coming)
    assert [number for number, got in crowd.got.items() if got] == [*range(10), *range(40, 50)]
    assert not pod.stats().connections


async def test_memory_for_those_who_come_back_takes_what_it_says() -> None:
    limit = 8 * 1024 * 1024
    # What a sender keeps to send it again, for some seconds, is another matter.
    fleet = LogFleet({"resume_max_bytes": limit, "beat_s": 60.0, "resend_max_bytes": 4_096}, MemoryLog())
    async with fleet.stack:
        worker, pod = await fleet.pod(resume_max_bytes=1), await fleet.pod()
        await publish_many(worker, 2_000)
        await until(lambda: pod.stats().received >= 2_000, "all is read", 60)
        fleet.broker.trim(0)
        tracemalloc.start()
        try:
            for _ in range(4):
                await publish_many(worker, 10_000)
                await until(partial(has_read, pod, worker), "all is read", 60)
                fleet.broker.trim(0)
            taken = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert pod.stats().replayable_bytes > 0.9 * limit, "it is full"
        assert taken < 1.5 * limit


def has_read(pod: DistributedBackplane, worker: DistributedBackplane) -> bool:
    return pod.stats().received >= worker.stats().published


async def publish_many(pod: DistributedBackplane, count: int) -> None:
    for number in range(count):
        await pod.publish(Target.user(f"u{number % 500}"), {"number": number, "text": "x" * 150})
    await pod.flush(timeout_s=60)


@define
class Reads:
    """How logs are read: how many pages at a time, and how long the longest one is."""

    running: int = 0
    most: int = 0
    longest: int = 0


def count_reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """Count from now on how pages are read."""
    reads, read = Reads(), LogPages.read

    async def counted(pages: LogPages, channel: str, **places: Any) -> Any:
        reads.running += 1
        reads.most = max(reads.most, reads.running)
        try:
            found = await read(pages, channel, **places)
        finally:
            reads.running -= 1
        reads.longest = max(reads.longest, len(found[1]))
        return found

    monkeypatch.setattr(LogPages, "read", counted)
    return reads
