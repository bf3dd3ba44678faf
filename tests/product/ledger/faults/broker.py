"""What may go wrong with the whole broker: killed and restarted, frozen for long or for a moment, demoted."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, Self

import redis
from attrs import frozen
from backplane_testservers import OwnBroker, free_port

from tests.product.ledger.buses import REDIS, SINGLE, BusName
from tests.product.ledger.faults.base import Fault, HurtWorld

__all__ = ["Demoted", "Freeze", "Hiccup", "Kill"]

WHOLE: frozenset[BusName] = SINGLE | frozenset[BusName]({"redis-cluster", "redis-cluster-streams"})


@frozen(kw_only=True)
class _Broker(Fault):
    buses = WHOLE

    @property
    def place(self) -> str:
        return "broker"


@frozen(kw_only=True)
class Kill(_Broker):
    """The broker is killed, and starts again with nothing."""

    async def happen(self, world: HurtWorld) -> None:
        before = {pod.name: pod.links for pod in world.pods}
        await asyncio.to_thread(world.server.kill)
        await world.until(lambda: all(pod.backplane.state != "live" for pod in world.pods), "all pods notice")
        world.saw(self, "all pods noticed")
        await asyncio.sleep(self.for_s)
        await asyncio.to_thread(world.server.start)
        await world.until(lambda: all(pod.links > before.get(pod.name, 0) for pod in world.pods), "all are live again")


@frozen(kw_only=True)
class Freeze(_Broker):
    """The broker stands still until all pods have given their links up, and goes on with what it had read."""

    async def happen(self, world: HurtWorld) -> None:
        await asyncio.to_thread(world.server.freeze)
        await world.until(lambda: all(pod.backplane.state != "live" for pod in world.pods), "all pods notice")
        world.saw(self, "all pods noticed")
        await asyncio.sleep(self.for_s)
        world.server.thaw()


@frozen(kw_only=True)
class Hiccup(_Broker):
    """The broker stands still for a moment: about as long as a pod is patient."""

    @classmethod
    def draw(cls, random: Random, *, at_s: float, pods: int) -> Self:
        del pods
        return cls(at_s=at_s, for_s=round(random.uniform(0.2, 1.4), 2))

    async def happen(self, world: HurtWorld) -> None:
        await asyncio.to_thread(world.server.freeze)
        await asyncio.sleep(self.for_s)
        world.server.thaw()
        world.saw(self, f"it stood still for {self.for_s} s")


@frozen(kw_only=True)
class Demoted(_Broker):
    """A Redis server becomes the replica of one that is not there, lives on, and is a primary again later."""

    buses = REDIS

    async def happen(self, world: HurtWorld) -> None:
        before = {pod.name: pod.links for pod in world.pods}
        await asyncio.to_thread(_execute, world.server, "REPLICAOF", "127.0.0.1", str(free_port()))
        try:
            await world.until(lambda: all(pod.backplane.state != "live" for pod in world.pods), "all pods leave it")
            world.saw(self, "all pods left it")
            await asyncio.sleep(self.for_s)
        finally:
            await asyncio.to_thread(_execute, world.server, "REPLICAOF", "NO", "ONE")
        await world.until(lambda: all(pod.links > before.get(pod.name, 0) for pod in world.pods), "all are live again")


def _execute(server: OwnBroker, *command: str) -> None:
    untyped: Any = redis  # as far as a strict checker sees
    with untyped.Redis(server.host, server.port) as client:
        client.execute_command(*command)
