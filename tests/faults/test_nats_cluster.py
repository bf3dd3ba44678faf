"""A cluster of three NATS nodes that die, leave in good order, and lose sight of each other, with a pod on each."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator

import pytest
from backplane_core import Gap, LinkChanged

from tests.brokers import NatsCluster, NatsNode
from tests.faults.asking import client_names
from tests.faults.rig import Pod, Rig
from tests.pods.fleet import until

KILLS = 3
KILLS_LONG = 30
MOVES = 2
MOVES_LONG = 10


@pytest.fixture
async def rig(leaves_nothing: None, cluster: NatsCluster, routing: str, channel: str) -> AsyncIterator[Rig]:
    async with Rig(cluster, {"channel": channel, "routing": routing}) as rig:
        yield rig


async def pod_per_node(rig: Rig, cluster: NatsCluster) -> list[Pod]:
    """Open a pod on each node; each knows of all nodes, and moves on its own."""
    pods: list[Pod] = []
    for number, node in enumerate(cluster.nodes):
        pods.append(await rig.pod_at(node.url, connection_kwargs={"name": f"p{number}"}))
        await rig.sockets(pods[-1], 5)
    return pods


def node_of(pod: Pod, cluster: NatsCluster) -> NatsNode:
    """The node that a pod is on."""
    (node,) = [node for node in cluster.running if pod.name in client_names(node)]
    return node


def reconnects(pod: Pod) -> list[Gap]:
    return [gap for gap in pod.gaps if gap.cause == "reconnect"]


@pytest.mark.timeout(600)
async def test_each_pods_node_is_killed_in_turn_and_every_loss_lies_in_a_gap(
    rig: Rig, cluster: NatsCluster, *, long: bool, record_property: pytest.RecordProperty
) -> None:
    pods = await pod_per_node(rig, cluster)
    took: list[float] = []
    async with rig.traffic(*pods):
        for kill in range(KILLS_LONG if long else KILLS):
            await rig.more(20, "traffic before the kill")
            node = await asyncio.to_thread(node_of, pods[kill % len(pods)], cluster)
            hit = [pod for pod in pods if pod.name in client_names(node)]
            links = {pod.name: pod.links for pod in pods}
            gaps = {pod.name: len(reconnects(pod)) for pod in pods}
            killed_at = time.monotonic()
            node.kill()
            for pod in hit:
                await rig.new_link(pod, links[pod.name])
            took.append(time.monotonic() - killed_at)
            await rig.more(1, "a remote delivery after the kill")
            for pod in pods:
                assert len(reconnects(pod)) - gaps[pod.name] == (pod in hit), "one gap for who was on it, none else"
            await asyncio.to_thread(node.start)
            await asyncio.to_thread(cluster.gather)
        await rig.more(20, "traffic after the last kill")
    await rig.settle()
    rig.ledger.assert_clean()
    took.sort()
    figures = f"{len(took)} kills: resumed in {statistics.median(took):.3f} s (median), {took[-1]:.3f} s (worst)"
    record_property("resumed", figures)


@pytest.mark.timeout(600)
async def test_a_node_that_leaves_in_good_order_costs_nobody_anything(
    rig: Rig, cluster: NatsCluster, *, long: bool
) -> None:
    pods = await pod_per_node(rig, cluster)
    async with rig.traffic(*pods):
        for move in range(MOVES_LONG if long else MOVES):
            await rig.more(20, "traffic before the move")
            node = await asyncio.to_thread(node_of, pods[move % len(pods)], cluster)
            moving = [pod for pod in pods if pod.name in client_names(node)]
            links = {pod.name: pod.links for pod in pods}
            node.lame_duck()
            for pod in moving:
                await rig.new_link(pod, links[pod.name])
            await until(lambda node=node: not node.running or not client_names(node), "its clients are gone", 60)
            await asyncio.to_thread(node.restart)
            await asyncio.to_thread(cluster.gather)
        await rig.more(20, "traffic after the last move")
    await rig.settle()
    rig.ledger.assert_clean()
    assert rig.ledger.missing == 0
    for pod in pods:
        assert pod.gaps == []
        links = [record for record in pod.records if isinstance(record, LinkChanged)]
        assert all(record.live for record in links), "no link died"
        stats = pod.backplane.stats()
        assert (stats.decode_errors, stats.collisions) == (0, 0)
    assert sum([pod.links for pod in pods]) > len(pods), "somebody moved"
