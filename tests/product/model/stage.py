"""What the steps of one run share: the broker, the pods that are up, and what is under way."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from attrs import evolve
from backplane_core import TransportError
from backplane_core.testing import Faults

from tests.product.model.links import ModelBroker
from tests.product.model.pod import Alarm, Pod
from tests.product.model.recorder import Recorder
from tests.product.model.weather import WEATHERS

__all__ = ["Stage"]


class Stage:
    """The fleet of one run.

    Args:
        recorder: Writes down what happens.
        alarm: Notified when a pod drops events.
    """

    def __init__(self, recorder: Recorder, alarm: Alarm) -> None:
        self.recorder = recorder
        self.plan = recorder.plan
        self.loop = recorder.loop
        self.ledger = recorder.ledger
        self.broker = ModelBroker(recorder)
        self.pods: dict[int, Pod] = {}
        self.all_pods: list[Pod] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.readers: list[asyncio.Task[None]] = []
        self._alarm = alarm
        self._weather: dict[int, Faults] = {}

    async def start(self, index: int, life: int) -> None:
        """As an orchestrator does: try again until it is up. What did not come up is closed, and must leave nothing."""
        while True:
            pod = Pod(self.recorder, self.broker, self._alarm, faults=self.faults(index), index=index, life=life)
            self.pods[index] = pod
            self.all_pods.append(pod)
            try:
                await pod.backplane.open()
            except TransportError:
                pod.stopping = True
                life += 1
                await asyncio.sleep(0.5)
            else:
                pod.log.started = True
                return

    def faults(self, index: int) -> Faults:
        """Return what a pod's line is like."""
        return self._weather.get(index) or self._named("calm")

    def blow(self, index: int, name: str) -> None:
        """Set what a pod's line is like."""
        self._weather[index] = self._named(name)
        self.pods[index].blow(self._weather[index])

    def _named(self, name: str) -> Faults:
        return evolve(WEATHERS[name], copy=0.1) if self.plan.copies else WEATHERS[name]

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Have something go on beside the script."""
        self.tasks.append(asyncio.create_task(coroutine))

    def sample(self) -> None:
        """Look at what must hold at any moment: nobody says ready while deaf, memory follows what is held."""
        for pod in self.pods.values():
            if pod.stopping or not pod.log.started:
                continue
            ready, state = pod.backplane.ready(), pod.backplane.state
            # A pod with a link is not ready either while it refuses everything.
            if ready.live != (state == "live") and (ready.live or not self.plan.refuses_all):
                self.recorder.blame(f"{pod.log.origin} is {state}, and its readiness says {ready}")
            self._sample_memory(pod)

    def _sample_memory(self, pod: Pod) -> None:
        """Channels that are kept follow what is held, was asked for, or lingers."""
        subscriptions, holds = pod.backplane._subscriptions, pod.backplane._registry.holds
        known = subscriptions._confirmed | subscriptions._unconfirmed | {*subscriptions._again}
        extra = [
            channel
            for channel, target in subscriptions._targets.items()
            if target is not None and not holds(target) and channel not in known
        ]
        if extra:
            self.recorder.blame(f"{pod.log.origin} keeps channels that nobody holds: {extra}")
