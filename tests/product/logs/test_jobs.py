"""Jobs over servers that keep a log: each is done once while all goes well, and at least once whatever dies."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections import Counter
from functools import partial
from typing import Any

import pytest
from backplane_core import (
    BaseBackplane,
    DistributedBackplane,
    EnvelopeRejected,
    EventDropped,
    Job,
    JobDead,
    JobsLost,
    Publisher,
    Record,
    SyncPublisher,
    connect,
)
from backplane_core.queues import queue_channel

from tests.product.logs.servers import LogServer
from tests.support.waiting import until

KEYS = ["a key of the fleet, drawn at random"]


class Done:
    """What workers have done, by job.

    Args:
        fail: How often each job raises first, by its value.
    """

    def __init__(self, fail: dict[Any, int] | None = None) -> None:
        self.values: Counter[Any] = Counter()
        self.ids: dict[Any, set[str]] = {}
        self.attempts: dict[Any, list[int]] = {}
        self._fail = fail or {}

    def has(self, count: int) -> bool:
        return len(self.values) == count

    async def work(self, pod: BaseBackplane, queue: str = "work", **options: Any) -> None:
        """Take jobs for ever."""
        async with pod.worker(queue, **options) as jobs:
            async for job in jobs:
                async with job:
                    self.take(job)

    def take(self, job: Job) -> None:
        self.ids.setdefault(job.value, set()).add(job.id)
        self.attempts.setdefault(job.value, []).append(job.attempt)
        if job.attempt <= self._fail.get(job.value, 0):
            raise ValueError("not this time")
        self.values[job.value] += 1


async def ended(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_each_job_is_done_once_and_in_order_whoever_enqueued_it(job_server: LogServer, channel: str) -> None:
    done = Done()
    order: list[Any] = []
    async with (
        connect(job_server.url, channel=channel) as one,
        connect(job_server.url, channel=channel) as other,
        Publisher(job_server.url, channel=channel) as publisher,
    ):
        # Before there is any worker.
        for number in range(20):
            await one.enqueue("work", number)
        await one.flush(timeout_s=30)
        tasks = [asyncio.create_task(done.work(pod)) for pod in (one, other, publisher)]
        await until(lambda: len(done.values) == 20, "what waited was done")
        for number in range(20, 200):
            await (one, other, publisher)[number % 3].enqueue("work", number)
        with SyncPublisher(job_server.url, channel=channel) as sync:
            await asyncio.to_thread(sync.enqueue, "work", 200)
            pods = (one, other, publisher)
            await until(lambda: sum(pod.stats().jobs_done for pod in pods) == 201, "all of it was done")
        await ended(*tasks)
        assert set(done.values) == {*range(201)}
        assert set(done.values.values()) == {1}
        assert all(attempts == [1] for attempts in done.attempts.values())
        for number in range(50):
            await one.enqueue("alone", number)
        async with other.worker("alone", prefetch=10) as jobs:
            async for job in jobs:
                order.append(job.value)
                await job.done()
                if len(order) == 50:
                    break
    assert order == [*range(50)]


def _die_with_a_job(url: str, channel: str) -> None:
    async def run() -> None:
        async with connect(url, channel=channel) as pod, pod.worker("work", lease_s=1) as jobs:
            async for _job in jobs:
                os._exit(7)

    asyncio.run(run())


async def test_a_job_whose_worker_is_killed_goes_to_another(job_server: LogServer, channel: str) -> None:
    done = Done()
    async with connect(job_server.url, channel=channel) as pod:
        await pod.enqueue("work", "survives")
        child = multiprocessing.get_context("spawn").Process(target=_die_with_a_job, args=(job_server.url, channel))
        child.start()
        await asyncio.to_thread(child.join, 60)
        assert child.exitcode == 7
        task = asyncio.create_task(done.work(pod, lease_s=1))
        await until(lambda: done.values, "it was done by another")
        await ended(task)
    assert done.attempts == {"survives": [2]}


async def test_a_slow_worker_keeps_its_job(job_server: LogServer, channel: str) -> None:
    done, other = Done(), Done()
    async with connect(job_server.url, channel=channel) as pod:
        await pod.enqueue("work", "slow")
        async with pod.worker("work", lease_s=3) as jobs:
            job = await anext(aiter(jobs))
            task = asyncio.create_task(other.work(pod, lease_s=3))
            await asyncio.sleep(7)  # nothing announces that nobody gets it
            await job.done()
            await asyncio.sleep(3.5)
        await ended(task)
    assert not other.values
    assert not done.values
    assert job.attempt == 1


async def test_a_worker_that_is_closed_gives_its_jobs_back_at_once(job_server: LogServer, channel: str) -> None:
    done = Done()
    async with connect(job_server.url, channel=channel) as pod:
        await pod.enqueue("work", "back")
        async with pod.worker("work", lease_s=3600) as jobs:
            await anext(aiter(jobs))
        task = asyncio.create_task(done.work(pod, lease_s=3600))
        await until(lambda: done.values, "another had it")
        await ended(task)


async def test_a_job_that_always_fails_ends_in_the_dead_queue_and_is_reported(
    job_server: LogServer, channel: str
) -> None:
    done, records = Done({"poison": 99, "shaky": 1}), list[Record]()
    async with connect(job_server.url, channel=channel, observer=records.append) as pod:
        await pod.enqueue("work", "poison")
        await pod.enqueue("work", "shaky")
        task = asyncio.create_task(done.work(pod, retry_s=0.05, max_attempts=3))
        await until(lambda: pod.stats().jobs_dead and done.values, "it was given up")
        await ended(task)
        assert done.attempts == {"poison": [1, 2, 3], "shaky": [1, 2]}
        [dead] = [record for record in records if isinstance(record, JobDead)]
        assert (dead.queue, dead.attempts, {dead.job_id}) == ("work", 3, done.ids["poison"])
        assert "ValueError" in dead.reason
        assert "not this time" not in dead.reason
        async with pod.worker("work:dead") as jobs:
            buried = await anext(aiter(jobs))
            assert (buried.value, buried.id) == ("poison", dead.job_id)
            await buried.done()
    assert pod.stats().jobs_failed == 4


async def test_a_server_that_is_killed_and_comes_back_costs_no_job(job_server: LogServer, channel: str) -> None:
    """It comes back empty, or with what it had: what it had confirmed lately is sent again, with the same ids."""
    done = Done()
    options: dict[str, Any] = {"transport_options": job_server.options, "channel": channel}
    async with connect(job_server.url, **options) as one, connect(job_server.url, **options) as other:
        tasks = [asyncio.create_task(done.work(pod, lease_s=2)) for pod in (one, other)]
        for round_ in range(3):
            for number in range(100):
                await one.enqueue("work", round_ * 100 + number)
                if number == 50:
                    await asyncio.to_thread(job_server.broker.kill)
            await until(lambda: one.state == other.state == "degraded", "the pods noticed")
            await asyncio.to_thread(job_server.broker.start)
            seen = (round_ + 1) * 100
            await until(partial(done.has, seen), "all of it was done")
        await ended(*tasks)
        assert set(done.values) == {*range(300)}
        assert all(len(ids) == 1 for ids in done.ids.values())
        assert one.stats().dropped == {}


async def test_a_job_that_no_pod_of_the_fleet_signed_reaches_no_worker(job_server: LogServer, channel: str) -> None:
    done, records = Done(), list[Record]()
    name = queue_channel(channel, "work")
    options: dict[str, Any] = {"channel": channel, "signing_keys": KEYS}
    async with connect(job_server.url, observer=records.append, **options) as pod:
        await pod.enqueue("work", "signed")
        await pod.flush(timeout_s=30)
        forged = b'{"origin":"x","target":{"Queue":"work"},"event":"forged","seq":1}'
        for payload in (
            forged,
            b"rubbish",
            b"backplane-signed-1 0123456789abcdef 1700000000 " + b"0" * 64 + b"\n" + forged,
        ):
            await job_server.add(name, payload)
        async with connect(job_server.url, channel=channel, signing_keys=["another key, of another fleet"]) as foreign:
            await foreign.enqueue("work", "foreign")
        task = asyncio.create_task(done.work(pod, retry_s=0, max_attempts=2))
        await until(lambda: pod.stats().signature_errors >= 8, "each was refused at each attempt")
        await pod.enqueue("work", "last")
        await until(lambda: len(done.values) == 2, "the others were done")
        await ended(task)
    assert set(done.values) == {"signed", "last"}
    assert {type(record) for record in records} & {EnvelopeRejected, JobDead} == {EnvelopeRejected}


async def test_a_queue_that_somebody_deletes_is_reported(job_server: LogServer, channel: str) -> None:
    done, records = Done(), list[Record]()
    async with connect(job_server.url, channel=channel, observer=records.append) as pod:
        task = asyncio.create_task(done.work(pod))
        await pod.enqueue("work", 1)
        await until(lambda: done.values, "the worker works")
        await job_server.delete([queue_channel(channel, "work")])
        await until(lambda: pod.stats().jobs_lost, "it was noticed")
        await pod.enqueue("work", 2)
        await until(lambda: len(done.values) == 2, "the worker works on")
        await ended(task)
    assert [record.queue for record in records if isinstance(record, JobsLost)] == ["work"]


async def test_a_pod_that_closes_ends_its_workers(job_server: LogServer, channel: str, leaves_nothing: None) -> None:
    async with connect(job_server.url, channel=channel) as pod, pod.worker("work") as jobs:
        closing = asyncio.create_task(pod.aclose())
        assert [job async for job in jobs] == []
        await closing


async def test_a_full_queue_takes_no_further_job_and_says_so(
    job_server: LogServer, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_server.queue_limit, 5)
    records = list[Record]()
    async with DistributedBackplane(job_server.transport(), channel=channel, observer=records.append) as pod:
        for number in range(8):
            await pod.enqueue("work", number)
        await pod.flush(timeout_s=30)
        assert pod.stats().dropped == {"refused": 3}
        dropped = [record for record in records if isinstance(record, EventDropped)]
        assert all("full" in str(record.reason) for record in dropped)
        async with pod.worker("work", prefetch=5) as jobs:
            each = aiter(jobs)
            taken = [await anext(each) for _ in range(5)]
            assert [job.value for job in taken] == [*range(5)]
            for job in taken:
                await job.done()
