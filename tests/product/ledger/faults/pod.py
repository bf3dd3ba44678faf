"""What may happen to a pod itself: it is replaced by a new one, or its loop is held up."""

from __future__ import annotations

import time
from random import Random
from typing import Self

from attrs import frozen

from tests.product.ledger.faults.base import Fault, HurtWorld

__all__ = ["Blocked", "Restart"]


@frozen(kw_only=True)
class Restart(Fault):
    """A pod closes in good order, with little time to send what is left, and another one takes its place.

    Args:
        pod: Which, by number.
        drain_s: How long it may go on sending.
    """

    pod: int
    drain_s: float

    @classmethod
    def draw(cls, random: Random, *, at_s: float, pods: int) -> Self:
        return cls(at_s=at_s, for_s=0, pod=random.randrange(pods), drain_s=random.choice((0, 0.05, 2)))

    @property
    def place(self) -> str:
        # The line of a pod that opens must not be hurt: opening is loud.
        return f"line {self.pod}"

    async def happen(self, world: HurtWorld) -> None:
        pod = world.pods[self.pod]
        before = pod.name
        await pod.restart(self.drain_s)
        if pod.name != before:
            world.saw(self, f"{pod.name} has replaced {before}")


@frozen(kw_only=True)
class Blocked(Fault):
    """The host holds up the loop of all pods."""

    @classmethod
    def draw(cls, random: Random, *, at_s: float, pods: int) -> Self:
        del pods
        return cls(at_s=at_s, for_s=round(random.choice((0.1, 0.4, 1.3)), 2))

    @property
    def place(self) -> str:
        return "loop"

    async def happen(self, world: HurtWorld) -> None:
        began = time.time()
        time.sleep(self.for_s)  # noqa: ASYNC251 -- that is the point
        world.book.stalls.append((began, time.time()))
        world.saw(self, f"the loop stood still for {self.for_s} s")
