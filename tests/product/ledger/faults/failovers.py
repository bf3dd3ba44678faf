"""What may go wrong where a replica takes over a log: its primary is killed, is deposed, or hands over as planned."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from random import Random
from typing import ClassVar, Self

from attrs import frozen
from backplane_testservers import RedisServer

from tests.product.ledger.buses import REPLICATED, BusName
from tests.product.ledger.faults.base import Fault, HurtWorld
from tests.product.ledger.replicas import Replicas, replicas_of

__all__ = ["Deposed", "HandOver", "KillPrimary"]


@frozen(kw_only=True)
class _Failover(Fault):
    """A fault of the node that one of the fleet's streams is at.

    Args:
        stream: Which stream, by number.
    """

    buses: ClassVar[frozenset[BusName]] = REPLICATED
    stream: int

    @classmethod
    def draw(cls, random: Random, *, at_s: float, pods: int) -> Self:
        del pods
        return cls(at_s=at_s, for_s=round(random.uniform(0.05, 2.0), 2), stream=random.randrange(100))

    @property
    def place(self) -> str:
        return "broker"

    async def happen(self, world: HurtWorld) -> None:
        slots = world.slots()
        replicas = replicas_of(world.bus, slots[self.stream % len(slots)])
        await asyncio.to_thread(replicas.wait_until_whole)
        old = await asyncio.to_thread(replicas.find_primary)
        await self.fail_over(world, replicas, old)
        await asyncio.to_thread(replicas.wait_until_whole)
        await world.until(lambda: all(pod.backplane.state == "live" for pod in world.pods), "all pods are live")

    @abstractmethod
    async def fail_over(self, world: HurtWorld, replicas: Replicas, old: RedisServer) -> None:
        """Have another node take over from this one, call `world.saw`, and heal."""

    async def see(self, world: HurtWorld, replicas: Replicas, old: RedisServer) -> None:
        """Return once another node has taken over."""
        await asyncio.to_thread(replicas.wait_for_another, old)
        world.saw(self, f"another node has taken over from {old.port}")


@frozen(kw_only=True)
class HandOver(_Failover):
    """A replica is asked to take over, though nothing is wrong."""

    async def fail_over(self, world: HurtWorld, replicas: Replicas, old: RedisServer) -> None:
        await asyncio.to_thread(replicas.hand_over)
        await self.see(world, replicas, old)


@frozen(kw_only=True)
class KillPrimary(_Failover):
    """The primary is killed, a replica takes over with what it has, and the old one comes back with nothing."""

    async def fail_over(self, world: HurtWorld, replicas: Replicas, old: RedisServer) -> None:
        await asyncio.to_thread(old.kill)
        await self.see(world, replicas, old)
        await asyncio.sleep(self.for_s)
        await asyncio.to_thread(old.start)


@frozen(kw_only=True)
class Deposed(_Failover):
    """The primary stands still until a replica has taken over, and goes on as if it were still in charge.

    It does what it was asked to meanwhile, and confirms it, until the others tell it that it is a replica by now.
    """

    async def fail_over(self, world: HurtWorld, replicas: Replicas, old: RedisServer) -> None:
        await asyncio.to_thread(old.freeze)
        try:
            await self.see(world, replicas, old)
            await asyncio.sleep(self.for_s)
        finally:
            old.thaw()
