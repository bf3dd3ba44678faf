"""What may go wrong with the whole broker: killed and restarted, frozen for long or for a moment."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Self

from attrs import frozen

from tests.product.ledger.buses import BusName
from tests.product.ledger.faults.base import Fault, HurtWorld

__all__ = ["Freeze", "Hiccup", "Kill"]

WHOLE: frozenset[BusName] = frozenset({"redis", "nats", "redis-cluster"})


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
