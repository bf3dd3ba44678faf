"""What a pod does itself of what it asks of all: `OwnPart`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from attrs import frozen

from backplane_core._fleet.orders import Orders
from backplane_core._fleet.responder import Responder
from backplane_core._local.registry import Registry
from backplane_core._protocol.fleet_frame import Answer, Question, target_of
from backplane_core.target import Intersection, Target

__all__ = ["OwnPart"]


@frozen
class OwnPart:
    """This pod among those that are asked.

    Args:
        registry: Knows the connections.
        responder: Answers.
        orders: Follows orders.
    """

    registry: Registry
    responder: Responder
    orders: Orders

    def answer(self, question: Question, origin: str) -> Answer:
        """Return what this pod answers to its own question."""
        return self.responder.answer(question, origin)

    async def follow(self, order: Question, whom: Sequence[Target | Intersection]) -> int:
        """Do what is ordered, and return how many connections it changed."""
        following = self.orders.follow(order, whom)
        while True:
            try:
                next(following)
            except StopIteration as end:
                changed: int = end.value
                return changed
            await asyncio.sleep(0)

    async def confirm(self, order: Question, timeout_s: float) -> None:
        """Return once events of what was associated arrive here, or after `timeout_s` seconds.

        Raises:
            TargetDeniedError: The broker does not let this pod hear it.
        """
        target = target_of(order)
        if target is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self.registry.subscriber.confirm((target,))
