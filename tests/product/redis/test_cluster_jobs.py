"""Jobs of a cluster: a queue that moves, or whose node dies, costs no job; a full one refuses only its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from backplane_core import BaseBackplane, DistributedBackplane, EventDropped, QueueLink, Record, RefusedError, connect
from backplane_core.queues import queue_channel
from backplane_redis import ClusterStreamsTransport
from backplane_testservers import RedisCluster
from backplane_testservers.redis_cluster import ClusterNode
from redis.crc import key_slot

from tests.conftest import available
from tests.product.redis.clusters import DEADLINE_S, over_streams
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("streams_url", "leaves_nothing")


@pytest.fixture
def own_cluster() -> Iterator[RedisCluster]:
    """A cluster of the test's own, whose masters have a replica each, and serve on while another one is down."""
    with available(RedisCluster(replicas=1, extra=["cluster-require-full-coverage no"])) as cluster:
        yield cluster


class Work:
    """What was done, by job, and how often each was handed out."""

    def __init__(self) -> None:
        self.done: Counter[Any] = Counter()
        self.attempts: dict[Any, int] = {}

    async def run(self, pod: BaseBackplane, queue: str) -> None:
        """Take jobs for ever."""
        async with pod.worker(queue, lease_s=2) as jobs:
            async for job in jobs:
                async with job:
                    self.attempts[job.value] = job.attempt
                    self.done[job.value] += 1

    def has(self, count: int) -> bool:
        return len(self.done) == count


@asynccontextmanager
async def working(pod: BaseBackplane, work: Work, queue: str = "work") -> AsyncGenerator[None]:
    task = asyncio.create_task(work.run(pod, queue))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def enqueue(pod: BaseBackplane, numbers: range) -> None:
    for number in numbers:
        await pod.enqueue("work", number)
        await asyncio.sleep(0.002)


def another(cluster: RedisCluster, node: ClusterNode) -> ClusterNode:
    return next(one for one in cluster.nodes if one is not node and one.is_master)


async def test_a_queue_whose_slot_moves_under_work_does_each_job_once(own_cluster: RedisCluster, channel: str) -> None:
    work = Work()
    queue = queue_channel(channel, "work")
    url = over_streams(own_cluster)
    async with connect(url, channel=channel) as pod, connect(url, channel=channel) as other:
        links = pod.stats().links
        async with working(pod, work), working(other, work):
            await enqueue(pod, range(50))
            for round_ in range(1, 4):
                first = 200 * round_
                enqueuing = asyncio.create_task(enqueue(other, range(first, first + 100)))
                source = await asyncio.to_thread(own_cluster.master, queue)
                target = await asyncio.to_thread(another, own_cluster, source)
                await asyncio.to_thread(own_cluster.move, key_slot(queue.encode()), target)
                await enqueuing
                await until(lambda: work.has(50 + 100 * round_), "all of it is done", DEADLINE_S)  # noqa: B023 -- now
        assert pod.stats().links == links, "no link is lost for it"
        assert pod.stats().jobs_lost == other.stats().jobs_lost == 0
    assert set(work.done.values()) == {1}
    assert set(work.attempts.values()) == {1}


async def test_while_a_queue_is_being_moved_its_jobs_are_done_where_it_is(
    own_cluster: RedisCluster, channel: str
) -> None:
    work = Work()
    queue = queue_channel(channel, "work")
    slot = key_slot(queue.encode())
    async with connect(over_streams(own_cluster), channel=channel) as pod, working(pod, work):
        await enqueue(pod, range(20))
        await until(lambda: work.has(20), "the worker works", DEADLINE_S)
        source = await asyncio.to_thread(own_cluster.master, queue)
        target = await asyncio.to_thread(another, own_cluster, source)
        await asyncio.to_thread(own_cluster.begin_move, slot, target)  # its key is there; the slot is not
        await enqueue(pod, range(20, 40))
        await until(lambda: work.has(40), "the worker went where it was sent", DEADLINE_S)
        await asyncio.to_thread(own_cluster.finish_move, slot, source, target)
        await enqueue(pod, range(40, 60))
        await until(lambda: work.has(60), "the worker works on", DEADLINE_S)
        assert pod.stats().jobs_lost == 0
    assert set(work.done.values()) == {1}


async def test_a_queue_whose_node_is_killed_loses_no_job(own_cluster: RedisCluster, channel: str) -> None:
    work = Work()
    async with connect(over_streams(own_cluster), channel=channel) as pod, working(pod, work):
        await enqueue(pod, range(50))
        await until(lambda: work.has(50), "the worker works", DEADLINE_S)
        old = await asyncio.to_thread(own_cluster.master, queue_channel(channel, "work"))
        enqueuing = asyncio.create_task(enqueue(pod, range(50, 250)))
        await asyncio.sleep(0.1)
        links = pod.stats().links
        await asyncio.to_thread(old.kill)
        await until(lambda: pod.stats().links > links and pod.state == "live", "it is replaced", DEADLINE_S)
        await enqueuing
        await until(lambda: work.has(250), "all of it is done", DEADLINE_S)


async def test_a_worker_leaves_a_frozen_node_that_has_nothing_but_its_queue(
    own_cluster: RedisCluster, channel: str
) -> None:
    work = Work()
    url = over_streams(own_cluster)
    async with connect(url, channel=channel, lanes=1) as pod, connect(url, channel=channel, lanes=1) as other:
        at = await asyncio.to_thread(own_cluster.master, channel)
        names = [f"work{number}" for number in range(50)]
        name = next(one for one in names if own_cluster.master(queue_channel(channel, one)) is not at)
        async with working(pod, work, name):
            await other.enqueue(name, 1)
            await until(lambda: work.has(1), "the worker works", DEADLINE_S)
            node = await asyncio.to_thread(own_cluster.master, queue_channel(channel, name))
            await asyncio.to_thread(node.freeze)
            try:
                await other.enqueue(name, 2)
                await until(lambda: work.has(2), "it works at the node that took over", DEADLINE_S)
            finally:
                node.thaw()


async def test_a_full_queue_refuses_its_own_jobs_and_nothing_else_of_a_batch(
    own_cluster: RedisCluster, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backplane_redis._streams.rooms.MAX_ENTRIES", 2)
    one, other = queue_channel(channel, "one"), queue_channel(channel, "other")
    link: QueueLink = await ClusterStreamsTransport(over_streams(own_cluster)).open()
    try:
        names = [one, other, channel, one, one, other, one]
        with pytest.raises(RefusedError, match="full") as caught:
            await link.send([(name, b"%d" % number) for number, name in enumerate(names)])
        assert [refusal.index for refusal in caught.value.refusals] == [4, 6]
        for name, payloads in ((one, [b"0", b"3"]), (other, [b"1", b"5"])):
            await link.open_queue(name, lease_s=30)
            assert [getattr(one, "payload", None) for one in await link.take(name, 9, wait_s=1)] == payloads
        assert [frame[1] for frame in await link.read(channel, 9) if isinstance(frame, tuple)] == [b"2"]
    finally:
        await link.aclose()
    records = list[Record]()
    transport = ClusterStreamsTransport(over_streams(own_cluster))
    async with DistributedBackplane(transport, channel=channel, observer=records.append) as pod:
        await enqueue(pod, range(5))
        await pod.flush(timeout_s=DEADLINE_S)
        assert pod.stats().dropped == {"refused": 3}
        assert all("full" in str(record.reason) for record in records if isinstance(record, EventDropped))
