"""What may happen to a pod's wall clock: it is set wrong for a while, far more than a fleet that signs can bear."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Self

from attrs import frozen

from tests.product.ledger.faults.base import Fault, HurtWorld

__all__ = ["ClockSet"]

WRONG_BY_S = (-5_000, 2_000, 86_400)


@frozen(kw_only=True)
class ClockSet(Fault):
    """The wall clock of a pod is set wrong, and later right. Where the fleet signs, nobody takes what it says then.

    Args:
        pod: Whose, by number.
        by_s: How much it is ahead in between.
    """

    pod: int
    by_s: float

    @classmethod
    def draw(cls, random: Random, *, at_s: float, pods: int) -> Self:
        for_s = round(random.uniform(0.05, 2.5), 2)
        return cls(at_s=at_s, for_s=for_s, pod=random.randrange(pods), by_s=random.choice(WRONG_BY_S))

    @property
    def place(self) -> str:
        return f"clock {self.pod}"

    async def happen(self, world: HurtWorld) -> None:
        clock = world.pods[self.pod].clock
        before, rejected = clock.ahead_s, _rejected(world)
        clock.set(self.by_s)
        if world.signs:
            await world.until(lambda: _rejected(world) > rejected, "frames of another time are rejected")
        world.saw(self, f"the clock was wrong by {self.by_s - before:g} s")
        await asyncio.sleep(self.for_s)
        clock.set(before)


def _rejected(world: HurtWorld) -> int:
    return sum([pod.backplane.stats().signature_errors for pod in world.pods])
