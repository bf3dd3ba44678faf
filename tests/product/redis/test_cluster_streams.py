"""Streams of a cluster: a slot that moves and a node that dies, is replaced or lags behind cost no event."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

import pytest
from backplane_core import (
    AuthenticationError,
    BackplaneError,
    BaseBackplane,
    ConfigurationError,
    DurableLink,
    InspectableTransport,
    Publisher,
    Target,
    Transport,
    TransportError,
    connect,
)
from backplane_redis import ClusterStreamsTransport, StreamsTransport
from backplane_redis._cluster.redirects import NodeSession
from backplane_redis._streams.reader import StreamReader
from backplane_redis._streams.writer import StreamWriter
from backplane_testservers import RedisCluster
from backplane_testservers.redis_cluster import ClusterNode
from redis.crc import key_slot

from tests.conftest import available
from tests.product.logs.traffic import USER, Traffic, fleet, reading
from tests.product.redis.clusters import DEADLINE_S, over_streams
from tests.support.inside import channel_of
from tests.support.sockets import Socket
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("streams_url", "leaves_nothing")


@pytest.fixture
def replicated() -> Iterator[RedisCluster]:
    """A cluster of the test's own, whose masters have a replica each."""
    with available(RedisCluster(replicas=1)) as cluster:
        yield cluster


@pytest.fixture
def own_cluster() -> Iterator[RedisCluster]:
    """A cluster of the test's own."""
    with available(RedisCluster()) as cluster:
        yield cluster


def slot_of_user(pod: BaseBackplane) -> int:
    return int(key_slot(channel_of(cast("Any", pod), USER).encode()))


def others(cluster: RedisCluster, node: ClusterNode) -> list[ClusterNode]:
    return [one for one in cluster.nodes if one is not node and one.is_master]


async def all_live_again(traffic: Traffic, links: list[int]) -> None:
    for pod, before in zip(traffic.pods, links, strict=True):
        await until(
            lambda pod=pod, before=before: pod.stats().links > before and pod.state == "live",  # type: ignore[misc]
            "each pod has another link",
            DEADLINE_S,
        )


async def test_transport_and_link_are_what_core_asks_for(shared_redis_cluster: RedisCluster, channel: str) -> None:
    transport = ClusterStreamsTransport(over_streams(shared_redis_cluster))
    assert isinstance(transport, Transport)
    assert isinstance(transport, InspectableTransport)
    link: DurableLink = await transport.open()
    channels = [f"{channel}:@{lane}" for lane in range(12)]
    async with reading(link) as got:
        begun = await link.resume(channels, {})
        assert begun.keys() == {*channels}
        await link.send([(one, b"%d" % number) for number in range(5) for one in channels])
        await until(lambda: len(got) == 60, "all come")
        assert "live, 12 streams" in repr(link)
        assert len({shared_redis_cluster.master(one).port for one in channels}) == 3, "they are on all nodes"
    for one in channels:
        assert [frame[1] for frame in got if isinstance(frame, tuple) and frame[0] == one] == [
            b"%d" % number for number in range(5)
        ]
    with pytest.raises(TransportError, match="is dead: it was closed"):
        await link.send([(channel, b"2")])


async def test_a_link_that_is_given_up_while_a_stream_changes_nodes_leaves_nothing(
    shared_redis_cluster: RedisCluster, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = await ClusterStreamsTransport(over_streams(shared_redis_cluster)).open()
    await link.resume([channel], {})
    aclose, is_closing = NodeSession.aclose, asyncio.Event()

    async def close_when_cancelled(session: NodeSession) -> None:
        is_closing.set()
        try:
            await asyncio.Event().wait()
        finally:
            await aclose(session)

    monkeypatch.setattr(NodeSession, "aclose", close_when_cancelled)
    changing = asyncio.create_task(link.resume([channel], {}))
    await is_closing.wait()  # what was read from is closed, and another one is there
    changing.cancel()
    await asyncio.wait([changing])
    monkeypatch.undo()
    await link.aclose()


async def test_a_link_that_is_closed_while_a_stream_is_resumed_leaves_nothing(
    shared_redis_cluster: RedisCluster, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = await ClusterStreamsTransport(over_streams(shared_redis_cluster)).open()
    resume = StreamReader.resume

    async def resume_and_close(reader: StreamReader, channels: Sequence[str], after: Mapping[str, str]) -> object:
        begun = await resume(reader, channels, after)
        await link.aclose()
        return begun

    monkeypatch.setattr(StreamReader, "resume", resume_and_close)
    with pytest.raises(TransportError, match="closed"):
        await link.resume([channel], {})


@pytest.mark.parametrize("scheme", ["redis-cluster+streams", "valkey-cluster+streams", "REDIS-CLUSTER+STREAMS"])
async def test_connect_finds_the_adapter_by_each_scheme(
    shared_redis_cluster: RedisCluster, scheme: str, channel: str
) -> None:
    _, _, rest = shared_redis_cluster.url.partition("://")
    async with connect(f"{scheme}://{rest}", channel=channel, transport_options={"retain_s": 60}) as backplane:
        assert await backplane.publish(Target.user("u1"), 1) == 0
        await backplane.flush(timeout_s=DEADLINE_S)


@pytest.mark.parametrize("scheme", ["redis+streams+cluster", "redis-streams-cluster", "redis-cluster+stream"])
def test_another_spelling_is_answered_with_the_right_one(scheme: str) -> None:
    with pytest.raises(BackplaneError, match=r"did you mean redis-cluster\+streams://"):
        connect(f"{scheme}://h")


def test_a_url_shows_no_secret_and_an_error_says_what_is_allowed() -> None:
    transport = ClusterStreamsTransport("rediss-cluster+streams://u:s3cr3t@a,b:1")
    assert repr(transport) == "ClusterStreamsTransport('rediss-cluster+streams://u:***@a:6379,b:1')"
    for url, options in (
        ("redis-cluster+streams://u:s3cr3t@a/0", {}),
        ("redis-cluster+streams://u:s3cr3t@a?db=1", {}),
        ("redis-cluster+streams://u:s3cr3t@a", {"retain_entries": 0}),
    ):
        with pytest.raises(ConfigurationError) as caught:
            ClusterStreamsTransport(url, **options)  # type: ignore[arg-type]
        assert "s3cr3t" not in str(caught.value)


async def test_a_single_server_and_a_node_of_a_cluster_say_which_url_they_want(
    shared_redis_cluster: RedisCluster, redis_url: str
) -> None:
    _, _, rest = redis_url.partition("://")
    with pytest.raises(TransportError, match="not in cluster mode"):
        await ClusterStreamsTransport(f"redis-cluster+streams://{rest}").open()
    node = shared_redis_cluster.nodes[0]
    with pytest.raises(TransportError, match=r"redis-cluster\+streams://"):
        await StreamsTransport(f"redis+streams://{node.host}:{node.port}").open()


async def test_a_permission_that_is_missing_is_named(own_cluster: RedisCluster, channel: str) -> None:
    rights = ["on", ">pod", "+cluster|slots", "+info", "+client|setname", "+xinfo", "+xread", "+xrange"]
    for node in own_cluster.nodes:
        node.execute("ACL SETUSER", "pod", *rights, "~other*")
    url = over_streams(own_cluster).replace("://", "://pod:pod@", 1)
    link: Any = await ClusterStreamsTransport(url).open()
    try:
        with pytest.raises(AuthenticationError, match=rf"~{channel} and ~{channel}:\*"):
            await link.resume([f"{channel}:@1"], {})
        with pytest.raises(AuthenticationError, match=r"\+xadd"):
            await link.send([("other", b"1")])
    finally:
        await link.aclose()
    for node in own_cluster.nodes:
        node.execute("ACL SETUSER", "pod", "-cluster|slots")
    with pytest.raises(AuthenticationError, match=r"\+cluster\|slots"):
        await ClusterStreamsTransport(url).open()


async def test_a_slot_that_moves_under_traffic_costs_no_event_and_no_link(
    own_cluster: RedisCluster, channel: str
) -> None:
    async with fleet(over_streams(own_cluster), channel) as traffic:
        await traffic.publish(100)
        slot, links = slot_of_user(traffic.pods[0]), traffic.links
        for number in range(3):
            publishing = asyncio.create_task(traffic.publish(600))
            await asyncio.sleep(0.02)
            source = own_cluster.master_of(slot)
            await asyncio.to_thread(own_cluster.move, slot, others(own_cluster, source)[number % 2])
            assert own_cluster.master_of(slot) is not source
            await publishing
        await traffic.publish(100)
        await traffic.settle()
        traffic.assert_whole()
        assert traffic.links == links


async def test_while_a_slot_is_being_moved_its_stream_is_used_where_it_is(
    own_cluster: RedisCluster, channel: str
) -> None:
    async with fleet(over_streams(own_cluster), channel) as traffic:
        await traffic.publish(100)
        slot, links = slot_of_user(traffic.pods[0]), traffic.links
        source = own_cluster.master_of(slot)
        target = others(own_cluster, source)[0]
        publishing = asyncio.create_task(traffic.publish(600))
        await asyncio.to_thread(own_cluster.begin_move, slot, target)
        await publishing
        # The old node still serves the slot, and sends each client to the new one.
        await traffic.publish(300)
        await traffic.settle()
        assert own_cluster.master_of(slot) is source
        await asyncio.to_thread(own_cluster.finish_move, slot, source, target)
        await traffic.publish(300)
        await traffic.settle()
        traffic.assert_whole()
        assert traffic.links == links


async def test_a_process_that_only_publishes_follows_a_slot(own_cluster: RedisCluster, channel: str) -> None:
    url = over_streams(own_cluster)
    async with fleet(url, channel) as traffic, Publisher(url, channel=channel) as publisher:
        slot = slot_of_user(traffic.pods[0])
        for number in range(4):
            await publisher.publish(USER, number)
            await publisher.flush(timeout_s=DEADLINE_S)
            source = own_cluster.master_of(slot)
            await asyncio.to_thread(own_cluster.move, slot, others(own_cluster, source)[0])
        for receiver in traffic.sockets:
            assert await receiver.has(4) == [0, 1, 2, 3]
        assert publisher.stats().links == 1


async def test_a_node_that_is_killed_under_traffic_costs_no_event(replicated: RedisCluster, channel: str) -> None:
    async with fleet(over_streams(replicated), channel) as traffic:
        await traffic.publish(200)
        await traffic.settle()
        links, old = traffic.links, replicated.master_of(slot_of_user(traffic.pods[0]))
        publishing = asyncio.create_task(traffic.publish(1_000))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(old.kill)
        await publishing
        await all_live_again(traffic, links)
        assert replicated.master_of(slot_of_user(traffic.pods[0])) is not old
        await traffic.publish(200)
        await traffic.settle()
        traffic.assert_whole()


@pytest.mark.parametrize("compares", [True, False], ids=["on", "off"])
async def test_a_replica_that_takes_over_while_it_lags_behind_costs_no_event(
    replicated: RedisCluster, channel: str, monkeypatch: pytest.MonkeyPatch, *, compares: bool
) -> None:
    """The old node lives, and just says that it does not serve the slot any longer, as after a move.

    Without the comparison with what was confirmed, what nobody had read yet is gone, and nobody sends it again.
    """
    if not compares:
        monkeypatch.setattr(StreamWriter, "find_forgotten", _nothing)
    may_read, read = asyncio.Event(), cast("Any", StreamReader)._read
    may_read.set()

    async def held(reader: StreamReader) -> Any:
        await may_read.wait()
        return await read(reader)

    monkeypatch.setattr(StreamReader, "_read", held)
    async with fleet(over_streams(replicated), channel) as traffic:
        await traffic.publish(200)
        await traffic.settle()
        slot = slot_of_user(traffic.pods[0])
        old = replicated.master_of(slot)
        replica = replicated.replica_of(old)
        with socket.create_connection((replica.host, replica.port)) as order:
            order.sendall(b"PING\r\n")
            assert order.recv(100) == b"+PONG\r\n"
            await asyncio.to_thread(replica.freeze)
            may_read.clear()
            # More than it reads at once, before it reads the order.
            for _ in range(40):
                await asyncio.gather(*[pod.publish(USER, {"padding": "x" * 10_000}) for pod in traffic.pods])
            await traffic.publish(300)
            for pod in traffic.pods:
                await pod.flush(timeout_s=DEADLINE_S)
            order.sendall(b"CLUSTER FAILOVER TAKEOVER\r\n")
            await asyncio.to_thread(replica.thaw)
            assert order.recv(100) == b"+OK\r\n"
        await until(lambda: replica.is_master and not old.is_master, "it took over", DEADLINE_S)
        may_read.set()
        await traffic.publish(100)
        await traffic.settle()
        for receiver in traffic.sockets:
            receiver.stream[:] = [item for item in receiver.stream if not isinstance(item, dict)]
        if compares:
            traffic.assert_whole()
            assert min(traffic.links) > 1, "the end was lost, and sent again over another link"
            return
        for receiver in traffic.sockets:
            assert traffic.missing(receiver) > 0
            await until(partial(_is_accounted_for, traffic, receiver), "what is missing lies inside gaps")


def _is_accounted_for(traffic: Traffic, receiver: Socket) -> bool:
    return sum([gap.missed or 0 for gap in receiver.gaps]) >= traffic.missing(receiver)


async def _nothing(_writer: StreamWriter, _cursors: object) -> list[str]:
    return []


async def test_what_each_node_lacks_is_said(own_cluster: RedisCluster) -> None:
    report = await ClusterStreamsTransport(over_streams(own_cluster)).inspect()
    wheres = {f"{node.host}:{node.port}" for node in own_cluster.nodes}
    for what in ("appendonly yes", "no replica"):
        assert {advice.partition(": ")[0] for advice in report.advice if what in advice} == wheres


async def test_a_replica_is_asked_for_what_it_would_lack_as_a_master(replicated: RedisCluster) -> None:
    report = await ClusterStreamsTransport(over_streams(replicated)).inspect()
    wheres = {f"{node.host}:{node.port}" for node in replicated.nodes}
    assert report.server.endswith("3 replicas")
    for what in ("appendonly yes", "min-replicas-to-write 1"):
        assert {advice.partition(": ")[0] for advice in report.advice if what in advice} == wheres
