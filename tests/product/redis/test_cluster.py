"""Links to a Redis Cluster: what each node carries, and slots that move under a link."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from backplane_core import Lost, RoutingName, Target, TransportError, connect
from backplane_redis import ClusterTransport
from backplane_redis._cluster.link import ClusterLink
from backplane_redis._cluster.slots import slot_of
from backplane_testservers import RedisCluster
from backplane_testservers.redis_cluster import ClusterNode

from tests.product.redis.reading import DEADLINE_S, Heard, raised, reading_cluster, turns
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("shared_redis_cluster", "leaves_nothing")


@pytest.fixture
def cluster(shared_redis_cluster: RedisCluster) -> Iterator[RedisCluster]:
    """The shared one, its slots back in their places after the test."""
    homes = {slot: shared_redis_cluster.master_of(slot) for slot in MOVABLE}
    yield shared_redis_cluster
    for slot, home in homes.items():
        if shared_redis_cluster.master_of(slot) is not home:
            shared_redis_cluster.move(slot, home)


# Channels of the same slots in every run: those alone are moved, and put back.
MOVING, BESIDE = "t:moving", "t:beside"
MOVABLE = {slot_of(MOVING), slot_of(BESIDE)}
MESSAGE = "its slot moved to another node of the cluster"


def heard_by(cluster: RedisCluster, prefix: str) -> list[int]:
    """How many channels of a prefix are subscribed at each node."""
    return [len(node.execute("PUBSUB", "SHARDCHANNELS", f"{prefix}*")) for node in cluster.nodes]


def elsewhere(cluster: RedisCluster, channel: str) -> ClusterNode:
    """A node that does not serve the channel."""
    return next(node for node in cluster.nodes if node is not cluster.master(channel))


async def move(cluster: RedisCluster, channel: str) -> None:
    await asyncio.to_thread(cluster.move, slot_of(channel), elsewhere(cluster, channel))


async def lost(heard: Heard, count: int = 1) -> list[Any]:
    """Wait for so many `Lost`, and return all that was heard."""
    frames: list[Any] = heard.frames
    await until(lambda: sum([isinstance(one, Lost) for one in frames]) >= count, f"{count} Lost")
    return frames


async def test_a_batch_is_spread_over_all_nodes_and_each_confirmation_counts(
    cluster: RedisCluster, channel: str
) -> None:
    channels = [f"{channel}:{n}" for n in range(512)]
    async with reading_cluster(cluster.url) as (link, heard), reading_cluster(cluster.url) as (other, _):
        await link.subscribe(channels)
        spread = heard_by(cluster, channel)
        assert sum(spread) == 512
        assert min(spread) > 100
        await other.send([(name, b"%d" % n) for n, name in enumerate(channels)])
        assert sorted(await heard.until(512)) == sorted([(name, b"%d" % n) for n, name in enumerate(channels)])
        await link.unsubscribe(channels[1:])
        assert sum(heard_by(cluster, channel)) == 1
        await other.send([(name, b"2") for name in reversed(channels)])
        assert (await heard.until(513))[512:] == [(channels[0], b"2")]


async def test_a_link_connects_to_no_node_that_it_does_not_need(cluster: RedisCluster, channel: str) -> None:
    async with reading_cluster(cluster.url_of(cluster.master(channel))) as (link, _):
        await link.subscribe([channel])
        await link.send([(channel, b"1")])
        assert len(link._nodes) == 1


@pytest.mark.parametrize(("routing", "options"), [("broadcast", {"lanes": 8}), ("interest", {})])
async def test_lanes_and_targets_are_spread_over_the_masters(
    cluster: RedisCluster, channel: str, routing: RoutingName, options: dict[str, Any]
) -> None:
    async with connect(cluster.url, channel=channel, routing=routing, **options) as pod:
        got: list[int] = []
        for number in range(16):
            await pod.attach(f"c{number}", got.append)
            assert await pod.associate(f"c{number}", Target.user(f"u{number}"))
        assert min(heard_by(cluster, f"{channel}:@")) >= 1
        async with connect(cluster.url, channel=channel, routing=routing, **options) as other:
            for number in range(16):
                await other.publish(Target.user(f"u{number}"), number)
            await until(lambda: sorted(got) == list(range(16)), "each target's event")


@pytest.mark.usefixtures("read_path")
async def test_a_channel_is_followed_to_its_slots_new_node_and_its_loss_is_told_there(cluster: RedisCluster) -> None:
    async with reading_cluster(cluster.url) as (link, heard), reading_cluster(cluster.url) as (other, _):
        await link.subscribe([MOVING, BESIDE])
        await other.send([(MOVING, b"before"), (BESIDE, b"before")])
        await heard.until(2)
        await move(cluster, MOVING)
        assert (await lost(heard))[2:] == [Lost(MOVING, MESSAGE)]
        # This one still writes to the node that has the slot no more: all is refused there, and sent on in order.
        frames = [(MOVING if n % 2 else BESIDE, b"%d" % n) for n in range(500)]
        await other.send(frames)
        await heard.until(503)
        for channel in (MOVING, BESIDE):
            assert [one for one in heard.frames[3:] if one[0] == channel] == [
                one for one in frames if one[0] == channel
            ]
        assert "live" in repr(link)
        assert "live" in repr(other)


async def test_a_slot_that_moves_amid_a_stream_leaves_all_that_comes_after_in_order(cluster: RedisCluster) -> None:
    async with reading_cluster(cluster.url) as (link, heard), reading_cluster(cluster.url) as (other, _):
        await link.subscribe([MOVING])
        moving = asyncio.create_task(move(cluster, MOVING))
        sent = 0
        while not moving.done() or sent < 2_000:
            await other.send([(MOVING, b"%d" % n) for n in range(sent, sent + 20)])
            sent += 20
        await moving
        frames: list[Any] = await lost(heard)
        await until(lambda: frames[-1] == (MOVING, b"%d" % (sent - 1)), "the last frame")
        numbers = [int(one[1]) for one in frames if not isinstance(one, Lost)]
        assert numbers == sorted(set(numbers))
        cut = next(n for n, one in enumerate(frames) if isinstance(one, Lost))
        assert numbers[:cut] == list(range(cut)), "nothing is missing before the Lost"
        assert numbers[cut:] == list(range(numbers[cut], sent)), "nothing is missing after it"


async def test_what_was_left_is_not_followed(cluster: RedisCluster) -> None:
    async with reading_cluster(cluster.url) as (link, heard):
        await link.subscribe([MOVING, BESIDE])
        await link.unsubscribe([MOVING])
        await move(cluster, MOVING)
        await move(cluster, BESIDE)
        assert await lost(heard) == [Lost(BESIDE, MESSAGE)]
        assert sum(heard_by(cluster, MOVING)) == 0
        await link.subscribe([MOVING])
        assert sum(heard_by(cluster, MOVING)) == 1


async def test_what_is_left_while_it_is_nowhere_stays_so(cluster: RedisCluster) -> None:
    async with reading_cluster(cluster.url) as (link, heard):
        await link.subscribe([MOVING, BESIDE])
        async with link._placements._changing:  # the mover comes after the one that leaves
            leaving = asyncio.create_task(link.unsubscribe([MOVING]))
            await turns()
            await move(cluster, MOVING)
            await move(cluster, BESIDE)
            await until(lambda: len(link._placements.unplaced) == 2, "both are dropped")
        await leaving
        assert await lost(heard) == [Lost(BESIDE, MESSAGE)]
        assert sum(heard_by(cluster, MOVING)) == 0
        assert not link._placements.unplaced


def received_until(link: ClusterLink) -> float:
    proven = link.proven()
    assert proven.received_until is not None
    assert proven.replicated_until == proven.received_until
    return proven.received_until


async def test_while_a_channel_is_nowhere_and_while_a_node_owes_an_answer_nothing_more_counts_as_heard(
    cluster: RedisCluster,
) -> None:
    async with reading_cluster(cluster.url) as (link, heard):
        await link.subscribe([MOVING, *[f"t:heard:{n}" for n in range(20)]])

        async def heard_on() -> float:
            before = received_until(link)
            loop = asyncio.get_running_loop()
            deadline = loop.time() + 2
            while received_until(link) == before and loop.time() < deadline:
                await link.send([("t:nobody", b"")])
                await asyncio.sleep(0.05)
            return received_until(link) - before

        assert await heard_on() > 0
        async with link._placements._changing:  # the mover waits
            await move(cluster, MOVING)
            await until(lambda: bool(link._placements.unplaced), "the channel is dropped")
            assert await heard_on() == 0
        await lost(heard)
        assert await heard_on() > 0
        frozen = cluster.master("t:heard:0")
        frozen.freeze()
        try:
            sending = asyncio.create_task(link.send([("t:heard:0", b"")]))
            await asyncio.wait([sending], timeout=0.3)  # what was answered before may still come in
            before = received_until(link)
            await asyncio.wait([sending], timeout=0.3)
            assert not sending.done()
            assert received_until(link) == before
        finally:
            frozen.thaw()
        await sending


async def test_while_the_reader_is_busy_frames_wait_at_the_nodes(cluster: RedisCluster, channel: str) -> None:
    link: Any = await ClusterTransport(cluster.url).open()
    async with reading_cluster(cluster.url) as (other, _):
        channels = [f"{channel}:{n}" for n in range(9)]
        batches = link.receive()
        first = asyncio.ensure_future(anext(batches))
        await link.subscribe(channels)
        for _ in range(20):
            await other.send([(name, b"x" * 1000) for name in channels * 300])
        count = len(await first)
        assert link._nodes.arrived.qsize() <= len(link._nodes)
        waiting = [sum([int(client["omem"]) for client in node.execute("CLIENT LIST")]) for node in cluster.nodes]
        assert sum(waiting) > 10_000_000
        async with asyncio.timeout(2 * DEADLINE_S):
            while count < 54_000:
                count += len(await anext(batches))
        await link.aclose()
        await raised(anext(batches))


async def test_a_link_whose_node_is_gone_is_dead_for_all(cluster: RedisCluster, channel: str) -> None:
    async with reading_cluster(cluster.url) as (link, heard):
        await link.subscribe([f"{channel}:{n}" for n in range(9)])
        node = cluster.nodes[1]
        await asyncio.to_thread(node.execute, "CLIENT", "KILL", "TYPE", "pubsub")
        error = await heard.death()
        assert error.retryable
        assert f"{node.host}:{node.port}" in str(error)
        for call in (link.subscribe(["t:more"]), link.unsubscribe([f"{channel}:0"]), link.send([(channel, b"")])):
            assert str(await raised(call)) == str(error)


async def test_channels_that_two_nodes_send_to_and_fro_end_the_link(
    cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backplane_redis._cluster.nodes.FIRST_PAUSE_S", 0.0)
    async with reading_cluster(cluster.url) as (link, _):

        def stay(_slots: object, _told: str, _by: object) -> None:
            """A node that does not know better."""

        monkeypatch.setattr("backplane_redis._cluster.slots.SlotMap.correct", stay)
        away = elsewhere(cluster, MOVING)
        link._nodes._slots._owners[slot_of(MOVING)] = link._nodes._slots._index((away.host, away.port))
        assert "back and forth" in str(await raised(link.subscribe([MOVING])))
        assert "back and forth" in str(await raised(link.send([(MOVING, b"")])))


async def test_a_link_that_dies_while_it_connects_leaves_nothing(cluster: RedisCluster, channel: str) -> None:
    link = await ClusterTransport(cluster.url).open()
    subscribing = asyncio.create_task(link.subscribe([f"{channel}:{n}" for n in range(9)]))
    await asyncio.sleep(0)
    await link.aclose()
    with pytest.raises(TransportError, match="it was closed"):
        await subscribing
