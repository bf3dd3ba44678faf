"""What may go wrong on one pod's line: cut, half-open, held, late, narrow, refused."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Final, Literal, Self, TypeAlias, get_args

from attrs import frozen
from backplane_testservers import Proxy

from tests.product.ledger.faults.base import HurtPod, HurtWorld, LineFault

__all__ = ["Cut", "HalfOpen", "Held", "Late", "Narrow", "Refused"]

Way: TypeAlias = Literal["up", "down", "both"]
WAYS: Final[tuple[Way, ...]] = get_args(Way)


async def _connected(world: HurtWorld, pod: HurtPod, proxy: Proxy) -> None:
    await world.until(lambda: proxy.connections > 0, f"{pod.name} has a connection to lose")


@frozen(kw_only=True)
class Cut(LineFault):
    """The connection ends with an RST: what was under way is lost, in both directions."""

    async def happen(self, world: HurtWorld) -> None:
        pod, proxy = self.find(world)
        await _connected(world, pod, proxy)
        before = pod.links
        world.saw(self, f"{proxy.reset()} connections reset")
        await world.until(lambda: pod.links > before, f"{pod.name} replaces its link")


@frozen(kw_only=True)
class HalfOpen(LineFault):
    """Bytes are swallowed in one direction or both, and no socket says so, until the pod replaces its link.

    Args:
        way: Which bytes: "up" to the broker, "down" to the pod.
    """

    way: Way

    @classmethod
    def draw(cls, random: Random, *, at_s: float, pods: int) -> Self:
        for_s = round(random.uniform(0.05, 0.5), 2)
        way: Way = random.choice(WAYS)
        return cls(at_s=at_s, for_s=for_s, pod=random.randrange(pods), way=way)

    async def happen(self, world: HurtWorld) -> None:
        pod, proxy = self.find(world)
        await _connected(world, pod, proxy)
        before = pod.links
        ways = {"up": (proxy.up,), "down": (proxy.down,), "both": (proxy.up, proxy.down)}[self.way]
        dropped = sum([way.dropped_bytes for way in ways])
        for way in ways:
            way.drop()
        await world.until(lambda: sum([way.dropped_bytes for way in ways]) > dropped, "bytes are swallowed")
        # While nothing passes no new link can go live: the pod gives up the old one, and tries again and again.
        tries = len(proxy.accepted_at)
        await world.until(lambda: len(proxy.accepted_at) > tries or pod.links > before, f"{pod.name} gives its link up")
        world.saw(self, f"{sum([way.dropped_bytes for way in ways]) - dropped} bytes swallowed")
        await asyncio.sleep(self.for_s)
        pod.heal_line()
        await world.until(lambda: pod.links > before, f"{pod.name} replaces its link")


@frozen(kw_only=True)
class Held(LineFault):
    """Nothing passes for a while, and then all of it does: at times too late, for a link that was given up."""

    @classmethod
    def draw(cls, random: Random, *, at_s: float, pods: int) -> Self:
        return cls(at_s=at_s, for_s=round(random.choice((0.2, 0.6, 2.0)), 2), pod=random.randrange(pods))

    async def happen(self, world: HurtWorld) -> None:
        pod, proxy = self.find(world)
        await _connected(world, pod, proxy)
        proxy.up.hold()
        proxy.down.hold()
        await asyncio.sleep(self.for_s)
        passed = proxy.up.passed_bytes
        pod.heal_line()
        await world.until(lambda: proxy.up.passed_bytes > passed, "what was held goes on")
        world.saw(self, f"held for {self.for_s} s, then {proxy.up.passed_bytes - passed} bytes at once")


@frozen(kw_only=True)
class Late(LineFault):
    """All bytes are late for a while, up to a quarter of a second."""

    async def happen(self, world: HurtWorld) -> None:
        pod, proxy = self.find(world)
        passed = proxy.down.passed_bytes
        for way in (proxy.up, proxy.down):
            way.delay(0.12, jitter_s=0.1)
        await asyncio.sleep(self.for_s)
        await world.until(lambda: proxy.down.passed_bytes > passed, "bytes arrive late")
        pod.heal_line()
        world.saw(self, f"{proxy.down.passed_bytes - passed} bytes were late")


@frozen(kw_only=True)
class Narrow(LineFault):
    """The line is cut, and so narrow afterwards that subscribing again takes its time."""

    @classmethod
    def draw(cls, random: Random, *, at_s: float, pods: int) -> Self:
        return cls(at_s=at_s, for_s=round(random.uniform(0.3, 2.0), 2), pod=random.randrange(pods))

    async def happen(self, world: HurtWorld) -> None:
        pod, proxy = self.find(world)
        await _connected(world, pod, proxy)
        before, passed = pod.links, proxy.up.passed_bytes
        proxy.up.limit(20_000)
        world.saw(self, f"{proxy.reset()} connections reset, and the next one narrow")
        await asyncio.sleep(self.for_s)
        await world.until(lambda: proxy.up.passed_bytes > passed, "bytes pass the narrow line")
        pod.heal_line()
        await world.until(lambda: pod.links > before, f"{pod.name} replaces its link")


@frozen(kw_only=True)
class Refused(LineFault):
    """The connection is cut, and new ones are refused for a while."""

    async def happen(self, world: HurtWorld) -> None:
        pod, proxy = self.find(world)
        await _connected(world, pod, proxy)
        before, tries = pod.links, len(proxy.accepted_at)
        proxy.refuse()
        proxy.reset()
        await world.until(lambda: len(proxy.accepted_at) > tries, f"{pod.name} tries in vain")
        world.saw(self, f"{len(proxy.accepted_at) - tries} connections refused")
        await asyncio.sleep(self.for_s)
        pod.heal_line()
        await world.until(lambda: pod.links > before, f"{pod.name} replaces its link")
