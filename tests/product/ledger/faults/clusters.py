"""What may go wrong where the broker is several nodes: one dies, leaves, is deposed, or hands slots over."""

from __future__ import annotations

import asyncio
from random import Random
from typing import ClassVar, Self

from attrs import frozen
from backplane_testservers import NatsCluster, RedisCluster, SentinelSet
from redis.exceptions import ResponseError

from tests.product.ledger.buses import BusName
from tests.product.ledger.faults.base import Fault, HurtWorld

__all__ = ["CutOff", "KillNode", "LameDuck", "MoveSlots", "Promote"]

NODES = 3
LOOK_S = 0.1


@frozen(kw_only=True)
class _NodeFault(Fault):
    """A fault of one node.

    Args:
        node: Which, by number.
    """

    node: int

    @classmethod
    def draw(cls, random: Random, *, at_s: float, pods: int) -> Self:
        del pods
        return cls(at_s=at_s, for_s=round(random.uniform(0.05, 0.8), 2), node=random.randrange(NODES))

    @property
    def place(self) -> str:
        return "broker"


@frozen(kw_only=True)
class KillNode(_NodeFault):
    """A node of a NATS cluster is killed, and comes back a little later."""

    buses: ClassVar[frozenset[BusName]] = frozenset({"nats-cluster"})

    async def happen(self, world: HurtWorld) -> None:
        cluster = world.bus
        assert isinstance(cluster, NatsCluster)
        node = cluster.nodes[self.node]
        await asyncio.to_thread(node.kill)
        world.saw(self, f"{node.name} is dead")
        await asyncio.sleep(self.for_s)
        await asyncio.to_thread(node.start)
        await asyncio.to_thread(cluster.wait_until_meshed)


@frozen(kw_only=True)
class LameDuck(_NodeFault):
    """A node of a NATS cluster asks its clients to leave, and closes."""

    buses: ClassVar[frozenset[BusName]] = frozenset({"nats-cluster"})

    async def happen(self, world: HurtWorld) -> None:
        cluster = world.bus
        assert isinstance(cluster, NatsCluster)
        node = cluster.nodes[self.node]
        node.enter_lame_duck()
        await world.until(lambda: not node.running, f"{node.name} has left")
        world.saw(self, f"{node.name} has left")
        await asyncio.to_thread(node.start)
        await asyncio.to_thread(cluster.wait_until_meshed)


@frozen(kw_only=True)
class CutOff(_NodeFault):
    """A node of a NATS cluster loses its routes, and keeps its clients until they notice; later it joins again."""

    buses: ClassVar[frozenset[BusName]] = frozenset({"nats-cluster"})

    @classmethod
    def draw(cls, random: Random, *, at_s: float, pods: int) -> Self:
        del pods
        return cls(at_s=at_s, for_s=round(random.choice((0.1, 0.8, 3.0)), 2), node=random.randrange(NODES))

    async def happen(self, world: HurtWorld) -> None:
        cluster = world.bus
        assert isinstance(cluster, NatsCluster)
        node = cluster.nodes[self.node]
        await asyncio.to_thread(cluster.take_out, node)
        world.saw(self, f"{node.name} is on its own")
        await asyncio.sleep(self.for_s)
        await asyncio.to_thread(cluster.take_back, node)


@frozen(kw_only=True)
class MoveSlots(_NodeFault):
    """A part of the slots of a Redis cluster moves to another node, those of the fleet's channels among them."""

    buses: ClassVar[frozenset[BusName]] = frozenset({"redis-cluster", "redis-cluster-streams"})

    async def happen(self, world: HurtWorld) -> None:
        cluster = world.bus
        assert isinstance(cluster, RedisCluster)
        slots = world.slots()
        # After it stood still, replicas may be taking over: a node refuses to give a slot away meanwhile.
        await asyncio.to_thread(cluster.wait_until, cluster.is_healthy, "every node is healthy")
        masters = await asyncio.to_thread(lambda: [node for node in cluster.nodes if node.is_master])
        target = masters[self.node]
        moving = [slot for slot in slots if not await asyncio.to_thread(target.serves, slot)]
        for slot in moving:
            await asyncio.to_thread(cluster.move, slot, target)
        moved = [slot for slot in moving if await asyncio.to_thread(target.serves, slot)]
        if moved or not moving:
            world.saw(self, f"{len(moved)} slots moved to node {self.node}")


@frozen(kw_only=True)
class Promote(Fault):
    """A sentinel has a replica take the master's place, though nothing is wrong."""

    buses: ClassVar[frozenset[BusName]] = frozenset({"sentinel"})

    @property
    def place(self) -> str:
        return "broker"

    async def happen(self, world: HurtWorld) -> None:
        sentinels = world.bus
        assert isinstance(sentinels, SentinelSet)
        before = {pod.name: pod.links for pod in world.pods}
        old = await asyncio.to_thread(lambda: sentinels.master)
        while not await asyncio.to_thread(_begins, sentinels):  # noqa: ASYNC110 -- in other processes
            await asyncio.sleep(LOOK_S)
        await world.until(lambda: all(pod.links > before.get(pod.name, 0) for pod in world.pods), "all pods follow")
        now = await asyncio.to_thread(lambda: sentinels.master)
        if now is not old:
            world.saw(self, f"the master is {now.port}, no longer {old.port}")


def _begins(sentinels: SentinelSet) -> bool:
    """Ask for a failover; False while the last one is not over, or the new master not known well enough."""
    try:
        sentinels.fail_over()
    except ResponseError:
        return False
    return True
