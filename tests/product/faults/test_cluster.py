"""A Redis Cluster whose masters are killed, replaced and frozen, and whose slots move, under load."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from backplane_core import DistributedBackplane, Gap, Target, connect
from backplane_redis import ClusterTransport
from backplane_redis._cluster.node import ClusterNode
from backplane_redis._connection import LinkConnection
from backplane_redis._opening import Connector
from backplane_redis._pending import PendingReply
from backplane_redis._url import Address
from backplane_testservers import Proxy, RedisCluster, free_port
from backplane_testservers.leftovers import no_leftovers
from redis.crc import key_slot

from tests.conftest import available
from tests.product.faults.rig import Pod, Rig
from tests.product.redis.reading import reading_cluster
from tests.support.inside import gaps_wait, live_link
from tests.support.waiting import until

MOVES, MOVES_LONG = 6, 100


@pytest.fixture(scope="module")
def whole_cluster() -> Iterator[RedisCluster]:
    """3 masters, and a replica of each."""
    with available(RedisCluster(replicas=1)) as cluster:
        yield cluster


@pytest.fixture
def cluster(whole_cluster: RedisCluster) -> Iterator[RedisCluster]:
    """The same, and well again after the test."""
    yield whole_cluster
    for node in whole_cluster.nodes:
        if node.running:
            node.thaw()
        else:
            node.start()
    whole_cluster.wait_until(whole_cluster.is_healthy, "the cluster is well again")


@pytest.fixture
async def rig(cluster: RedisCluster, leaves_nothing: None, routing: str, channel: str) -> AsyncIterator[Rig]:
    lanes = {"lanes": 5} if routing == "broadcast" else {}
    async with Rig(cluster, {"channel": channel, "routing": routing, **lanes}) as rig:
        yield rig


async def test_what_a_silent_nodes_line_swallowed_lies_in_a_gap_although_beats_went_on_over_another(
    channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    with (
        Proxy("127.0.0.1", port) as proxy,
        RedisCluster(ports={1: port}, announced_ports={1: proxy.port}) as cluster,
    ):
        silent = cluster.nodes[1]

        class PastTheProxy(Connector):
            """Reaches the node directly."""

            async def open(
                self, address: Address | None = None, *, peer: str = "Redis", protocol: int | None = None
            ) -> LinkConnection:
                return await super().open(("127.0.0.1", port) if address and address[1] == proxy.port else address)

        monkeypatch.setattr("backplane_redis._cluster.seeds.Connector", PastTheProxy)
        direct = ClusterTransport(cluster.url)
        monkeypatch.undo()
        name = next(one for n in range(99) if cluster.master(one := f"{channel}:{n}") is not silent)
        users = [Target.user(f"u{n}") for n in range(99)]
        user = next(one for one in users if cluster.master(f"{name}:@user:{one.id}") is silent)
        async with (
            no_leftovers(),
            DistributedBackplane(direct, channel=name, routing="interest") as here,
            connect(cluster.url, channel=name, routing="interest", probe_interval_s=1.0) as there,
        ):
            got: list[int] = []
            gaps: list[Gap] = []
            await there.attach("c1", got.append, on_gap=gaps.append)
            assert await there.associate("c1", user)
            await here.publish(user, 0)
            await until(lambda: got == [0], "the event before")
            proxy.down.drop()
            before = time.time()
            for number in range(1, 51):
                await here.publish(user, number)
            await here.flush(timeout_s=10)
            published = time.time()
            await until(lambda: there.state == "degraded", "the pod notices")
            assert proxy.down.dropped_bytes > 50
            assert got == [0]
            assert (there.ready().last_beat or 0) > published, "beats went on meanwhile"
            proxy.heal()
            await until(lambda: there.state == "live", "live again")
            assert gaps[0].since < before
            await here.publish(user, 51)
            await until(lambda: got == [0, 51], "the event after")


async def three_pods(rig: Rig) -> tuple[Pod, Pod, Pod]:
    """Two that publish and hear, and one that only hears."""
    here, there, listener = [await rig.pod() for _ in range(3)]
    for pod in (here, there, listener):
        await rig.sockets(pod, 5)
    return here, there, listener


def channels_of(pod: Pod) -> list[str]:
    """The channels that carry events of the rig's targets to this pod, beside the shared one."""
    return [
        channel
        for channel in live_link(pod.backplane)._placements.channels
        if ":@" in channel and ":@connection:" not in channel
    ]


def lost(pod: Pod) -> list[Gap]:
    return [gap for gap in pod.gaps if "its slot moved" in gap.reason]


def told_all(rig: Rig) -> bool:
    """Whether no gap waits to be told: those of one socket come a second apart."""
    return not any(gaps_wait(pod.backplane) for pod in rig.pods)


async def settle(rig: Rig) -> None:
    await rig.settle()
    await until(lambda: told_all(rig), "the last gap at each socket")
    rig.ledger.assert_clean()


async def test_a_killed_master_of_the_shared_channel_is_replaced_by_its_replica_and_every_loss_lies_in_a_gap(
    rig: Rig, cluster: RedisCluster, channel: str
) -> None:
    here, there, _ = await three_pods(rig)
    master = cluster.master(channel)
    replica = cluster.replica_of(master)
    async with rig.traffic(here, there):
        await rig.more(40, "traffic before the kill")
        await asyncio.to_thread(master.kill)
        await rig.all_degraded()
        await rig.more_published(20)
        await rig.all_live()
        await rig.more(40, "traffic by way of the replica")
    assert await asyncio.to_thread(lambda: replica.is_master)
    await settle(rig)
    for pod in rig.pods:
        assert pod.links >= 2
        assert pod.backplane.stats().dropped == {}


async def test_a_planned_failover_costs_no_link_and_its_loss_lies_in_gaps_of_its_channels(
    rig: Rig, cluster: RedisCluster, channel: str
) -> None:
    here, there, _ = await three_pods(rig)
    master = cluster.master(channel)
    replica = cluster.replica_of(master)
    async with rig.traffic(here, there):
        await rig.more(40, "traffic before the failover")
        await asyncio.to_thread(replica.execute, "CLUSTER FAILOVER")
        await until(lambda: all(lost(pod) for pod in rig.pods), "each pod tells of what it lost", 60)
        await rig.more(40, "traffic after the failover")
    await settle(rig)
    for pod in rig.pods:
        assert pod.links == 1
        assert pod.backplane.stats().dropped == {}
        assert channel in {gap.channel for gap in lost(pod)}
    assert not await asyncio.to_thread(lambda: master.is_master)
    left = (master.host, master.port)
    await until(
        lambda: all(left not in [node.address for node in live_link(pod.backplane)._nodes] for pod in rig.pods),
        "what became a replica is left",
        60,
    )


async def test_a_node_that_became_a_replica_is_left_only_once_all_was_asked_of_it(
    cluster: RedisCluster, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two questions nothing is due there, as at a node that nobody needs."""
    master = cluster.master(channel)
    elsewhere = next(name for number in range(99) if cluster.master(name := f"{channel}:{number}") is not master)
    asked, sent = ClusterNode.write_cluster_slots, list[str]()
    async with reading_cluster(cluster.url) as (link, _):
        nodes = link._nodes
        await link.subscribe([elsewhere])
        await link.send([(channel, b"before"), (elsewhere, b"before")])
        left = await nodes.owner_of(channel)

        async def asked_after_a_send(node: ClusterNode) -> PendingReply:
            other = await nodes.owner_of(elsewhere)
            while left.address in nodes._slots.owners:  # until that one has heard of it
                await other.wait_confirmed(await asked(other))
                nodes.learn_from(other)
            link._placements._may_retire = True
            await link.send([(elsewhere, b"meanwhile")])
            sent.append("meanwhile")
            return await asked(node)

        monkeypatch.setattr(ClusterNode, "write_cluster_slots", asked_after_a_send)
        await asyncio.to_thread(cluster.replica_of(master).execute, "CLUSTER FAILOVER")
        await until(lambda: not master.is_master, "the other one is master", 60)
        link._placements.suspect(left)
        await until(lambda: sent and not link._placements._changing.locked(), "it was asked")
        assert nodes.death is None
        await link.send([(elsewhere, b"after")])
        assert left not in [*nodes], "it is left then"


async def test_a_slot_that_moves_to_and_fro_costs_no_link_and_only_its_own_channel_is_told(
    rig: Rig,
    cluster: RedisCluster,
    long: bool,  # noqa: FBT001 -- a fixture
) -> None:
    here, there, listener = await three_pods(rig)
    moving = channels_of(listener)[0]
    slot = key_slot(moving.encode())
    home = cluster.master_of(slot)
    away = next(node for node in cluster.nodes if node is not home and node.is_master)
    async with rig.traffic(here, there):
        await rig.more(20, "traffic before the moves")
        for move in range(1, 1 + (MOVES_LONG if long else MOVES)):
            await asyncio.to_thread(cluster.move, slot, away if move % 2 else home)
            await until(lambda: all(len(lost(pod)) >= move for pod in rig.pods), "each pod tells of the move", 60)  # noqa: B023
            await rig.more(10, "traffic after the move")
    await settle(rig)
    for pod in rig.pods:
        assert pod.links == 1
        assert pod.backplane.stats().dropped == {}
        assert {gap.channel for gap in lost(pod)} == {moving}


async def test_a_frozen_node_that_carries_no_beats_is_found_by_pods_that_only_hear(
    rig: Rig, cluster: RedisCluster, channel: str
) -> None:
    rig.options["probe_interval_s"] = 1.0
    here, there, listener = await three_pods(rig)
    shared = cluster.master(channel)
    frozen = next(node for one in channels_of(listener) if (node := cluster.master(one)) is not shared)
    async with rig.traffic(here, there):
        await rig.more(40, "traffic before the freeze")
        await asyncio.to_thread(frozen.freeze)
        await until(lambda: listener.is_degraded, "the listening pod notices", 60)
        assert "frozen" in (listener.backplane.ready().reason or "")
        await rig.all_live()
        await rig.more(40, "traffic by way of the replica")
        await asyncio.to_thread(frozen.thaw)
        await rig.more(40, "traffic after the thaw")
    await settle(rig)
    for pod in rig.pods:
        assert pod.links >= 2
        assert pod.backplane.stats().dropped == {}
