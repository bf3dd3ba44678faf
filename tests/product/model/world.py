"""A fleet of real pods over a broker that fails, in virtual time: plays a plan's script and keeps the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from tests.product.model.ending import Ending
from tests.product.model.ledger import Ledger
from tests.product.model.plan import Plan, Step
from tests.product.model.publishing import Publishing
from tests.product.model.recorder import Recorder
from tests.product.model.sockets import Sockets
from tests.product.model.stage import Stage
from tests.product.model.troubles import Troubles
from tests.product.model.virtual_loop import VirtualLoop

__all__ = ["World"]


class World:
    """One run of a plan.

    Args:
        plan: What to do.
        loop: The loop in which it is done.
        trace: Takes a line for each thing that happens.
    """

    def __init__(self, plan: Plan, loop: VirtualLoop, trace: Callable[[str], None] | None = None) -> None:
        self.plan = plan
        self.recorder = Recorder(plan, loop, trace)
        publishing = Publishing(self.recorder)
        self.stage = publishing.stage = Stage(self.recorder, publishing)
        sockets = Sockets(self.stage, publishing)
        self.ending = Ending(self.stage, publishing, sockets)
        self._actors = (publishing, sockets, Troubles(self.stage, sockets))

    @property
    def ledger(self) -> Ledger:
        """What happened."""
        return self.recorder.ledger

    async def play(self) -> Ledger:
        """Start the fleet, play the script, mend everything, let it settle, close it."""
        for index in range(self.plan.pods):
            await self.stage.start(index, 0)
        for step in self.plan.steps:
            if step.wait_s:
                await asyncio.sleep(step.wait_s)
            self.recorder.say(partial("-- {} {}".format, step.do, step.args))
            self._method(step)(*step.args)
            self.stage.sample()
        await self.ending.settle()
        await self.ending.close()
        return self.ledger

    def _method(self, step: Step) -> Callable[..., None]:
        actor = next(actor for actor in self._actors if hasattr(actor, step.do))
        method: Callable[..., None] = getattr(actor, step.do)
        return method
