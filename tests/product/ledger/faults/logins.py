"""What may happen to the credentials of a pod: they are renewed, at times after the pod had none that hold."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Self

from attrs import frozen

from tests.product.ledger.faults.base import Fault, HurtPod, HurtWorld

__all__ = ["Renewed"]

LOOK_S = 0.02


@frozen(kw_only=True)
class Renewed(Fault):
    """A pod gets other credentials: on its live link where there is a way, otherwise by another link.

    Args:
        pod: Which pod, by number.
        late: Whether it had wrong ones in between.
    """

    pod: int
    late: bool

    @classmethod
    def draw(cls, random: Random, *, at_s: float, pods: int) -> Self:
        for_s = round(random.uniform(0.05, 0.8), 2)
        return cls(at_s=at_s, for_s=for_s, pod=random.randrange(pods), late=random.random() < 0.5)

    @property
    def place(self) -> str:
        return "broker"

    async def happen(self, world: HurtWorld) -> None:
        if self.late:
            await self._show(world, renew=False)
            await asyncio.sleep(self.for_s)
        await self._show(world, renew=True)
        world.saw(self, "the broker was shown new credentials")
        await world.until(lambda: self._pod(world).backplane.state == "live", "the pod is live")

    async def _show(self, world: HurtWorld, *, renew: bool) -> None:
        """Change the credentials, and return once the broker was shown them: on a live link, or by another one."""
        access = world.access
        shown, link = await asyncio.to_thread(access.renewals), self._link(world)
        await asyncio.to_thread(access.renew if renew else access.expire, self.pod)
        async with asyncio.timeout(60):
            while self._link(world) == link and await asyncio.to_thread(access.renewals) <= shown:
                if not renew and self._pod(world).backplane.state != "live":
                    return  # no link goes live with what it has now
                await asyncio.sleep(LOOK_S)

    def _pod(self, world: HurtWorld) -> HurtPod:
        return world.pods[self.pod]

    def _link(self, world: HurtWorld) -> tuple[str, int]:
        return self._pod(world).name, self._pod(world).links
