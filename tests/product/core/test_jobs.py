"""Jobs without a server: in memory, over a log in memory, and what a frame of a queue may hold."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from backplane_core import (
    ClosedError,
    ConfigurationError,
    DistributedBackplane,
    EnvelopeError,
    EventDropped,
    EventEncodeError,
    EventTooLargeError,
    InMemoryBackplane,
    Job,
    JobDead,
    JobsLost,
    OutboxFullError,
    Publisher,
    Record,
    SyncPublisher,
    Traits,
)
from backplane_core._jobs import bus_desk, worker
from backplane_core._protocol.job_frame import decode_job, encode_buried, queue_target
from backplane_core.queues import queue_channel
from backplane_core.testing import MemoryLog, MemoryLogTransport, MemoryTransport

from tests.product.interop.golden import FRAMES
from tests.support.waiting import until


async def taken(pod: Any, count: int, queue: str = "work", **options: Any) -> list[Job]:
    """Take so many jobs, and have them done."""
    jobs: list[Job] = []
    async with pod.worker(queue, **options) as work:
        async for job in work:
            jobs.append(job)
            await job.done()
            if len(jobs) == count:
                return jobs
    raise AssertionError("the worker ended")


@pytest.fixture(params=["memory", "log"])
def pod(request: pytest.FixtureRequest) -> InMemoryBackplane | DistributedBackplane:
    return InMemoryBackplane() if request.param == "memory" else DistributedBackplane(MemoryLogTransport())


async def test_jobs_are_done_once_each_and_in_order(pod: DistributedBackplane, leaves_nothing: None) -> None:
    async with pod:
        for number in range(100):
            await pod.enqueue("work", {"n": number})
        jobs = await taken(pod, 100)
        assert [job.value["n"] for job in jobs] == [*range(100)]
        assert len({job.id for job in jobs}) == 100
        assert {job.attempt for job in jobs} == {1}
        assert (pod.stats().enqueued, pod.stats().jobs_done) == (100, 100)


async def test_no_two_workers_have_one_job_and_each_has_one_at_a_time(pod: DistributedBackplane) -> None:
    held: list[int] = []
    done: list[Any] = []

    async def work() -> None:
        async with pod.worker("work") as jobs:
            async for job in jobs:
                async with job:
                    held.append(jobs.held)
                    await asyncio.sleep(0.001)
                    done.append(job.value)

    async with pod:
        tasks = [asyncio.create_task(work()) for _ in range(5)]
        for number in range(50):
            await pod.enqueue("work", number)
        await until(lambda: len(done) == 50, "all was done")
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    assert sorted(done) == [*range(50)]
    assert set(held) == {1}


async def test_a_job_that_raises_comes_again_and_in_the_end_is_given_up(pod: DistributedBackplane) -> None:
    records: list[Record] = []
    pod.observer = records.append
    attempts: list[int] = []
    async with pod:
        await pod.enqueue("work", "secret payload")
        async with pod.worker("work", retry_s=0.01, max_attempts=3) as jobs:
            async for job in jobs:
                async with job:
                    attempts.append(job.attempt)
                    raise ValueError(job.value)
                if job.attempt == 3:
                    break
        [dead] = await taken(pod, 1, "work:dead")
        assert attempts == [1, 2, 3]
        assert dead.value == "secret payload"
        assert (pod.stats().jobs_failed, pod.stats().jobs_dead, pod.stats().jobs_done) == (3, 1, 1)
    [record] = [record for record in records if isinstance(record, JobDead)]
    assert (record.queue, record.job_id, record.attempts) == ("work", dead.id, 3)
    assert "ValueError" in record.reason
    assert "secret" not in repr(records)


async def test_the_queue_of_what_was_given_up_gives_nothing_up(pod: DistributedBackplane) -> None:
    async with pod:
        await pod.enqueue("work:dead", 1)
        async with pod.worker("work:dead", retry_s=0, max_attempts=1) as jobs:
            async for job in jobs:
                async with job:
                    if job.attempt < 4:
                        raise ValueError
                    break
        assert pod.stats().jobs_dead == 0


async def test_cancelled_work_is_given_back_and_the_cancellation_goes_on(pod: DistributedBackplane) -> None:
    began = asyncio.Event()

    async def work() -> None:
        async with pod.worker("work") as jobs:
            async for job in jobs:
                async with job:
                    began.set()
                    await asyncio.sleep(3600)

    async with pod:
        await pod.enqueue("work", 1)
        task = asyncio.create_task(work())
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        [job] = await taken(pod, 1)
        assert job.attempt == 2
        assert pod.stats().jobs_failed == 0


async def test_a_job_is_settled_once_and_not_after_its_worker(pod: DistributedBackplane) -> None:
    async with pod:
        await pod.enqueue("work", 1)
        await pod.enqueue("work", 2)
        async with pod.worker("work", prefetch=2) as jobs:
            each = aiter(jobs)
            done, left = await anext(each), await anext(each)
            await done.done()
            await done.done()
            await done.give_back()
            assert (done.is_settled, left.is_settled, jobs.held) == (True, False, 1)
        await done.done()
        with pytest.raises(ClosedError, match="given back"):
            await left.done()
        [again] = await taken(pod, 1)
        assert again.value == 2


async def test_a_worker_ends_when_its_backplane_drains_and_can_still_finish(pod: DistributedBackplane) -> None:
    async with pod:
        await pod.enqueue("work", 1)
        await pod.enqueue("work", 2)
        async with pod.worker("work") as jobs:
            found: list[Any] = []
            async for job in jobs:
                found.append(job.value)
                await pod.drain()
                await job.done()
            assert found == [1]
        with pytest.raises(ClosedError):
            await pod.enqueue("work", 3)
        with pytest.raises(ClosedError):
            pod.worker("work")


async def test_what_is_wrong_with_arguments_is_said_before_anything_is_taken(pod: DistributedBackplane) -> None:
    async with pod:
        for queue in ("", "a b", "a:b", "x" * 65, "a.b", "ü", 5):
            with pytest.raises(ConfigurationError, match="64"):
                await pod.enqueue(queue, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        wrong: list[dict[str, Any]] = [
            {"lease_s": 0.5},
            {"prefetch": 0},
            {"prefetch": 1.5},
            {"prefetch": 1_001},
            {"max_attempts": True},
            {"retry_s": -1},
        ]
        for options in wrong:
            with pytest.raises(ConfigurationError, match="is not allowed"):
                pod.worker("work", **options)
        with pytest.raises(EventEncodeError):
            await pod.enqueue("work", object())
        with pytest.raises(EventTooLargeError):
            await pod.enqueue("work", "x" * 2_000_000)
        async with pod.worker("work") as jobs:
            with pytest.raises(ClosedError, match="once"):
                await jobs.__aenter__()
        with pytest.raises(ClosedError, match="entered"):
            await anext(aiter(pod.worker("work")))
        assert pod.stats().enqueued == 0


async def test_a_bus_that_keeps_nothing_refuses_jobs_at_once() -> None:
    async with DistributedBackplane(MemoryTransport()) as pod:
        with pytest.raises(ConfigurationError, match=r"redis\+streams"):
            await pod.enqueue("work", 1)
        with pytest.raises(ConfigurationError, match=r"nats\+jetstream"):
            pod.worker("work")
        assert pod.stats().enqueued == 0
    with pytest.raises(ConfigurationError, match="keeps no jobs"), SyncPublisher("redis://127.0.0.1:1") as publisher:
        publisher.enqueue("work", 1)
    async with Publisher("redis://127.0.0.1:1", wait=False) as other:
        with pytest.raises(ConfigurationError, match="keeps no jobs"):
            await other.enqueue("work", 1)


async def test_a_queue_in_memory_is_bounded_and_what_is_left_at_the_end_is_counted() -> None:
    records: list[Record] = []
    async with InMemoryBackplane(outbox_max_messages=3, observer=records.append) as pod:
        for number in range(5):
            await pod.enqueue("work", number)
        assert pod.stats().dropped == {"outbox": 2}
        await pod.enqueue("other", 1)
        assert [job.value for job in await taken(pod, 1)] == [0]
    assert pod.stats().dropped == {"outbox": 2, "closed": 3}
    assert [record.count for record in records if isinstance(record, EventDropped)] == [1, 1, 2, 1]
    async with InMemoryBackplane(outbox_max_messages=1, outbox_overflow="raise") as pod:
        await pod.enqueue("work", 1)
        with pytest.raises(OutboxFullError):
            await pod.enqueue("work", 2)


async def test_a_job_outlives_links_and_is_sent_once_its_broker_is_back() -> None:
    broker = MemoryLog()
    async with DistributedBackplane(MemoryLogTransport(broker)) as pod:
        broker.cut()
        await pod.enqueue("work", "while it was away")
        async with pod.worker("work") as jobs:
            waiting = asyncio.ensure_future(anext(aiter(jobs)))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            broker.restore()
            job = await waiting
            broker.cut()
            finishing = asyncio.create_task(job.done())
            await asyncio.sleep(0.05)
            assert not finishing.done()
            broker.restore()
            await finishing
        assert (job.value, job.attempt) == ("while it was away", 1)
        assert pod.stats().jobs_done == 1


async def test_a_broker_that_lost_its_queues_is_reported_and_gets_again_what_it_had_confirmed() -> None:
    broker, records = MemoryLog(), list[Record]()
    async with DistributedBackplane(MemoryLogTransport(broker), observer=records.append) as pod:
        await taken_after(pod, "first")
        async with pod.worker("work") as jobs:
            broker.erase()
            await until(lambda: any(isinstance(record, JobsLost) for record in records), "it was noticed")
            del jobs
        await taken_after(pod, "second")
    assert pod.stats().jobs_lost >= 1


async def taken_after(pod: DistributedBackplane, value: str) -> None:
    await pod.enqueue("work", value)
    while True:
        [job] = await taken(pod, 1)
        if job.value == value:  # else what was sent again, and is done twice
            return


async def test_a_dropped_job_leaves_no_beat_in_its_queue() -> None:
    broker = MemoryLog()
    name = queue_channel("backplane", "work")
    async with DistributedBackplane(MemoryLogTransport(broker), outbox_max_messages=4, beat_s=0.05) as pod:
        broker.cut()
        await until(lambda: pod.state == "degraded", "the link was lost")
        for number in range(9):
            await pod.enqueue("work", number)
        assert pod.stats().dropped["outbox"] >= 5
        broker.restore()
        await pod.flush(timeout_s=30)
        await asyncio.sleep(0.2)
    assert len(broker.payloads(name)) <= 4
    assert all(decode_job(payload).json.isdigit() for payload in broker.payloads(name))


async def test_a_forgotten_job_is_said_in_the_log(
    pod: DistributedBackplane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "FORGOTTEN_S", 0.05)
    async with pod:
        await pod.enqueue("work", 1)
        async with pod.worker("work") as jobs:
            each = aiter(jobs)
            job = await anext(each)
            following = asyncio.ensure_future(anext(each))
            await until(lambda: "job.done() forgotten" in caplog.text, "the log says so")
            await job.done()
            following.cancel()
            await asyncio.wait([following])


async def test_a_worker_that_is_never_entered_costs_nothing(pod: DistributedBackplane, leaves_nothing: None) -> None:
    async with pod:
        pod.worker("work")
        gc.collect()


def test_a_frame_of_a_queue_is_read_as_the_page_says() -> None:
    job = decode_job(FRAMES["job"])
    assert (job.id, job.json) == ("6f1c:12", b'{"to":"ann"}')
    given_up = decode_job(FRAMES["job_given_up"])
    assert (given_up.id, given_up.json) == ("77ab:12", b'{"to":"ann"}')
    assert FRAMES["job_given_up"].endswith(encode_buried("77ab:12", 5) + b"}")
    assert queue_target("emails:dead").wire in FRAMES["job_given_up"]
    for bad in (
        b'{"origin":"o","target":{"Queue":"q"},"event":1}',
        b'{"origin":"o","target":{"Queue":"q"},"event":null,"seq":1,"routing":"broadcast"}',
        b'{"origin":"o","target":{"Queue":"q"},"event":1,"seq":1,"job":5}',
        b'{"origin":"o","target":{"Queue":"q"},"event":1,"seq":1,"job":{}}',
        b'{"origin":"o","target":{"Queue":"q"},"event":1,"seq":1,"job":{"id":""}}',
        b'{"origin":"o","target":{"Queue":"q"},"event":1,"seq":1,"job":{"id":"%b"}}' % (b"x" * 2_049),
        b"rubbish",
        b"",
    ):
        with pytest.raises(EnvelopeError):
            decode_job(bad)


def test_traits_have_no_queues_unless_they_say_so() -> None:
    assert not Traits(durable=True).queues
    assert bus_desk.TAKE_S < 1.0
