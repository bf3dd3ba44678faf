"""A cluster of three NATS nodes that die, leave in good order, and lose sight of each other, with a pod on each."""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack
from functools import partial

import pytest
from attrs import define
from backplane_core import Gap, LinkChanged
from backplane_testservers import BrokerUnavailable, NatsCluster, NatsNode, Proxy

from tests.conftest import skip_or_fail
from tests.product.faults.asking import client_names
from tests.product.faults.rig import Pod, Rig
from tests.support.waiting import until

KILLS = 3
KILLS_LONG = 30
MOVES = 2
MOVES_LONG = 10


@pytest.fixture
async def rig(leaves_nothing: None, nats_cluster: NatsCluster, routing: str, channel: str) -> AsyncIterator[Rig]:
    async with Rig(nats_cluster, {"channel": channel, "routing": routing}) as rig:
        yield rig


async def pod_per_node(rig: Rig, nats_cluster: NatsCluster) -> list[Pod]:
    """Open a pod on each node; each knows of all nodes, and moves on its own."""
    pods: list[Pod] = []
    for number, node in enumerate(nats_cluster.nodes):
        pods.append(await rig.pod_at(node.url, connection_kwargs={"name": f"p{number}"}))
        await rig.sockets(pods[-1], 5)
    return pods


async def known(rig: Rig, *publishers: Pod) -> None:
    """Return once every node knows who hears what: between nodes that takes a moment longer than a confirmation."""
    async with rig.traffic(*publishers):
        await rig.more(5, "traffic between the nodes")
    await rig.settle()
    for witness in rig.ledger.witnesses:
        witness.since = time.time()


def node_of(pod: Pod, nats_cluster: NatsCluster) -> NatsNode:
    """The node that a pod is on."""
    (node,) = [node for node in nats_cluster.running if pod.name in client_names(node)]
    return node


def has_no_clients(node: NatsNode) -> bool:
    return not node.running or not client_names(node)


def reconnects(pod: Pod) -> list[Gap]:
    return [gap for gap in pod.gaps if gap.cause == "reconnect"]


@pytest.mark.timeout(600)
async def test_each_pods_node_is_killed_in_turn_and_every_loss_lies_in_a_gap(
    rig: Rig, nats_cluster: NatsCluster, *, long: bool
) -> None:
    pods = await pod_per_node(rig, nats_cluster)
    await known(rig, *pods)
    took: list[float] = []
    async with rig.traffic(*pods):
        for kill in range(KILLS_LONG if long else KILLS):
            await rig.more(20, "traffic before the kill")
            node = await asyncio.to_thread(node_of, pods[kill % len(pods)], nats_cluster)
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
            await asyncio.to_thread(nats_cluster.wait_until_meshed)
        await rig.more(20, "traffic after the last kill")
    await rig.settle()
    rig.ledger.assert_clean()
    took.sort()
    logging.getLogger(__name__).info(
        "%d kills: resumed in %.3f s (median), %.3f s (worst)", len(took), statistics.median(took), took[-1]
    )


@pytest.mark.timeout(600)
async def test_a_node_that_leaves_in_good_order_costs_nobody_anything(
    rig: Rig, nats_cluster: NatsCluster, *, long: bool
) -> None:
    pods = await pod_per_node(rig, nats_cluster)
    await known(rig, *pods)
    async with rig.traffic(*pods):
        for move in range(MOVES_LONG if long else MOVES):
            await rig.more(20, "traffic before the move")
            node = await asyncio.to_thread(node_of, pods[move % len(pods)], nats_cluster)
            moving = [pod for pod in pods if pod.name in client_names(node)]
            links = {pod.name: pod.links for pod in pods}
            node.enter_lame_duck()
            for pod in moving:
                await rig.new_link(pod, links[pod.name])
            await until(partial(has_no_clients, node), "its clients are gone", 60)
            await asyncio.to_thread(node.restart)
            await asyncio.to_thread(nats_cluster.wait_until_meshed)
        await rig.more(20, "traffic after the last move")
    await rig.settle()
    rig.ledger.assert_clean()
    assert rig.ledger.missing == 0
    for pod in pods:
        assert pod.gaps == []
        changes = [record for record in pod.records if isinstance(record, LinkChanged)]
        assert all(change.live for change in changes), "no link died"
        stats = pod.backplane.stats()
        assert (stats.decode_errors, stats.collisions) == (0, 0)
    assert sum([pod.links for pod in pods]) > len(pods), "somebody moved"


async def test_a_node_that_was_taken_out_of_its_cluster_is_left_and_what_went_there_is_in_doubt(
    rig: Rig, nats_cluster: NatsCluster
) -> None:
    here, there, _ = await pod_per_node(rig, nats_cluster)
    await known(rig, here, there)
    node = node_of(here, nats_cluster)
    async with rig.traffic(here, there):
        await rig.more(20, "traffic before the node leaves")
        await asyncio.to_thread(nats_cluster.take_out, node)
        await rig.new_link(here, 1)
        assert node_of(here, nats_cluster) is not node
        await rig.more(20, "traffic after the move")
    await rig.settle()
    rig.ledger.assert_clean()
    assert node.running, "it would have gone on confirming"
    assert here.backplane.stats().dropped["in_doubt"] > 0
    assert (here.links, there.links) == (2, 1)
    (gap,) = reconnects(here)
    assert "cut off from the larger part of its cluster" in gap.reason
    assert "sequence" in {gap.cause for gap in there.gaps}


@define
class Divided:
    """Two nodes, and the only ways between them."""

    cluster: NatsCluster
    ways: Sequence[Proxy]

    def hold(self) -> None:
        """Let nothing pass between them, and nothing say so."""
        for way in self.ways:
            way.up.hold()
            way.down.hold()

    def cut(self) -> None:
        """End their routes, and let them make no others."""
        for way in self.ways:
            way.refuse()
            way.reset()

    def heal(self) -> None:
        for way in self.ways:
            way.heal()


@pytest.fixture
def divided(leaves_nothing: None) -> Iterator[Divided]:
    with ExitStack() as stack:
        ways: dict[str, Proxy] = {}

        def route(_: NatsNode, to: NatsNode) -> int:
            if to.name not in ways:
                ways[to.name] = stack.enter_context(Proxy(to.host, to.route_port))
            return ways[to.name].port

        try:
            cluster = stack.enter_context(NatsCluster(size=2, route=route))
        except BrokerUnavailable as error:
            skip_or_fail(error)
        yield Divided(cluster, [*ways.values()])


async def test_what_a_route_still_held_when_its_node_died_lies_in_the_gap(
    divided: Divided, routing: str, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # More than this test takes on a machine that is busy.
    monkeypatch.setattr("backplane_nats._link.ROUTE_LAG_S", 20.0)
    options = {"channel": channel, "routing": routing, "probe_interval_s": 0.5, "beat_s": 0.1}
    async with Rig(divided.cluster, options) as rig:
        here, there = [await rig.pod_at(node.url) for node in divided.cluster.nodes]
        await rig.sockets(here, 5)
        await known(rig, there)
        divided.hold()
        await rig.publish(there, 20)
        await there.backplane.flush(timeout_s=10)
        rig.ledger.has_left(there.on_the_way)
        there.on_the_way.clear()
        beats = here.backplane.stats().beats
        await until(lambda: here.backplane.stats().beats >= beats + 3, "its own node tells the pod that all is well")
        divided.cluster.nodes[0].kill()
        await rig.new_link(here, 1)
        divided.heal()
        await rig.settle()
        rig.ledger.assert_clean()
        assert rig.ledger.missing >= 20, "the route held them"


async def test_a_node_that_is_cut_from_the_others_looks_well_and_the_holes_are_told_afterwards(
    divided: Divided, routing: str, channel: str
) -> None:
    async with Rig(divided.cluster, {"channel": channel, "routing": routing}) as rig:
        here, there = [await rig.pod_at(node.url) for node in divided.cluster.nodes]
        for pod in (here, there):
            await rig.sockets(pod, 5)
        await known(rig, here, there)
        divided.cut()
        alone = divided.cluster.nodes[0]
        await until(lambda: len(alone.info().get("connect_urls", [1])) <= 1, "the node is alone")
        for _ in range(4):
            await rig.publish(there, 5)
            await rig.publish(here, 5)
            await there.backplane.flush(timeout_s=10)
            await here.backplane.flush(timeout_s=10)
        assert here.is_live
        assert there.is_live
        assert here.gaps == there.gaps == []
        divided.heal()
        async with rig.traffic(here, there):
            await rig.more(5, "the nodes know again who hears what")
        await rig.settle()
        rig.ledger.assert_clean()
        assert rig.ledger.missing >= 40
        for pod in (here, there):
            assert pod.links == 1
            assert {gap.cause for gap in pod.gaps} == {"sequence"}
