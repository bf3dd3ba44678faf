"""What a broker may refuse: a frame that is too large, and what a pod's user may not hear or publish."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from random import Random
from typing import Self

from attrs import frozen
from backplane_core import ClosedError, Target, TargetDeniedError

from tests.product.ledger.faults.base import Fault, HurtPod, HurtWorld

__all__ = ["Denied", "Poison"]

LOOK_S = 0.05
ONCE_DENIED = Target("room", "denied")
"""Nobody holds it or publishes to it, so whether it is denied shows when somebody asks for it."""


@frozen(kw_only=True)
class Poison(Fault):
    """A pod publishes an event that its broker takes for too large: some hang up, without a word.

    Args:
        pod: Which pod, by number; its outbox has room for the event.
        mute: Whether the broker says nothing, if it can be had.
    """

    pod: int
    mute: bool

    @classmethod
    def draw(cls, random: Random, *, at_s: float, pods: int) -> Self:
        return cls(at_s=at_s, for_s=0, pod=random.randrange(pods), mute=random.random() < 0.5)

    @property
    def place(self) -> str:
        return "broker"

    async def happen(self, world: HurtWorld) -> None:
        padding = await asyncio.to_thread(world.access.limit, mute=self.mute)
        try:
            event = await world.pods[self.pod].publish(Target.everyone(), padding)
            await world.until(lambda: event.refused or world.book.settled(event), "the event is given up")
        finally:
            await asyncio.to_thread(world.access.unlimit)
        if not world.book.reached(event):
            world.saw(self, f"{event}, padded with {padding} bytes, reached nobody")


@frozen(kw_only=True)
class Denied(Fault):
    """A pod may not hear and publish what it could before; later it may again.

    Args:
        pod: Which pod, by number.
        whole: Whether it may nothing at all, or only not what some targets need.
    """

    pod: int
    whole: bool

    @classmethod
    def draw(cls, random: Random, *, at_s: float, pods: int) -> Self:
        for_s = round(random.uniform(0.05, 0.8), 2)
        return cls(at_s=at_s, for_s=for_s, pod=random.randrange(pods), whole=random.random() < 0.3)

    @property
    def place(self) -> str:
        return "broker"

    async def happen(self, world: HurtWorld) -> None:
        some = self._some(world)
        await asyncio.to_thread(world.access.deny, self.pod, some)
        try:
            if some is None:
                await world.until(lambda: world.pods[self.pod].backplane.state != "live", "the pod is shut out")
                world.saw(self, "it is shut out")
            else:
                await _ask(world, self.pod, denied=True)
                world.saw(self, f"it may not use {', '.join(some)}")
            await asyncio.sleep(self.for_s)
        finally:
            await asyncio.to_thread(world.access.deny, self.pod, ())
        await world.until(lambda: world.pods[self.pod].backplane.state == "live", "the pod is live again")
        if some is not None:
            await _ask(world, self.pod, denied=False)

    def _some(self, world: HurtWorld) -> Collection[str] | None:
        """Return the channels that it may not use; None: all of them."""
        routing = world.book.routing
        if self.whole or routing.name == "broadcast":
            return None
        pod = world.pods[self.pod].name
        held = {hold.target for life in world.book.lives if life.pod == pod for hold in life.holds}
        own = sorted({target.id for target in held if target.kind in {"user", "room", "org"}})
        chosen = [target for target in held if target.id in own[::2]]
        return sorted({routing.channel([target]) for target in (*chosen, ONCE_DENIED)} - {*routing.base})


async def _ask(world: HurtWorld, pod: int, *, denied: bool) -> None:
    """Ask for a target until the answer is as it should be."""
    async with asyncio.timeout(60):
        while await _is_denied(world.pods[pod]) is not denied:  # noqa: ASYNC110 -- the broker has to be asked
            await asyncio.sleep(LOOK_S)


async def _is_denied(pod: HurtPod) -> bool | None:
    """Return whether the broker lets a pod hear the target; None: it does not say."""
    try:
        async with pod.backplane.connection(None, ONCE_DENIED):
            return None if pod.backplane.stats().denied else False
    except TargetDeniedError:
        return True
    except ClosedError:
        return None
