"""The end of a run: everything is mended, the fleet settles, and closes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from attrs import frozen

from tests.product.model.plan import CONNECT_TIMEOUT_S, TARGETS
from tests.product.model.pod import Pod
from tests.product.model.publishing import Publishing
from tests.product.model.sockets import Sockets
from tests.product.model.stage import Stage

__all__ = ["Ending"]


@frozen
class Ending:
    """Ends a run.

    Args:
        stage: The fleet.
        publishing: Publishes a last event.
        sockets: The connections.
    """

    stage: Stage
    publishing: Publishing
    sockets: Sockets

    async def settle(self) -> None:
        """Mend everything, and wait until all that is owed is settled."""
        stage, plan = self.stage, self.stage.plan
        stage.recorder.say(lambda: "-- all is mended")
        stage.broker.restore()
        for index in range(plan.pods):
            stage.blow(index, "calm")
        await self._within(60, "steps that never end", *stage.tasks)
        pods = list(stage.pods.values())
        # A deaf link is found by the beat that it does not hear; one that is not live yet, by its timeout.
        patience_s = 2 * (plan.probe_s + plan.beat_s) + CONNECT_TIMEOUT_S
        await self._until(lambda: not any(pod.is_deaf for pod in pods), "no link is deaf", patience_s)
        # The answer may stand behind what a slow sink still holds up.
        await self._until(lambda: not any(pod.transport.is_behind for pod in pods), "no pod is behind", 30)
        # A question whose answer was lost stands in no outbox, and holds up what is published next until it is noticed.
        await self._until(lambda: not any(pod.owes_an_answer for pod in pods), "no link owes an answer", patience_s)
        await self._send_all(pods)
        if plan.refuses_all:
            await self._mend_clocks(pods)
            await self._send_all(pods)
        # What was dropped last has nothing behind it that shows the hole, but a beat.
        patience_s = plan.probe_s + 2 * plan.beat_s
        await self._until(lambda: not any(map(_has_unmarked_tails, pods)), "no tail is unmarked", patience_s)
        for index in range(plan.pods):
            self.publishing.publish(index, (len(TARGETS) - 1,), (), 1, "nowait")
            await asyncio.sleep(0.1)
        # A pod whose link was cut at last may have found that out only now.
        await self._send_all(pods)
        await self._until(lambda: not any(pod.transport.is_behind for pod in pods), "no pod is behind", 30)
        # A bare sink hears of the last hole up to a second later.
        await asyncio.sleep(1.5)
        stage.sample()

    async def _send_all(self, pods: list[Pod]) -> None:
        """Wait until the broker has all that was published."""
        # The longest wait between attempts is 5 s.
        await self._until(lambda: all(pod.backplane.state == "live" for pod in pods), "all pods are live", 20)
        await self._within(30, "outboxes that stay full", *[pod.backplane.flush() for pod in pods])

    async def _mend_clocks(self, pods: list[Pod]) -> None:
        """Once each pod has found that it refuses everything, and says so, set their clocks."""
        patience_s = 4 * self.stage.plan.probe_s + 5
        refuses = "a pod that refuses everything says that it is not ready"
        await self._until(lambda: not any(pod.backplane.ready().live for pod in pods), refuses, patience_s)
        for pod in pods:
            pod.set_right()
        await self._until(lambda: all(pod.backplane.ready().live for pod in pods), "all pods are ready", patience_s)

    async def _until(self, condition: Callable[[], bool], what: str, patience_s: float) -> None:
        """Wait; only time in which the loop turns counts."""
        loop = self.stage.loop
        deadline = loop.time() - loop.held_s + patience_s
        while not condition():
            if loop.time() - loop.held_s > deadline:
                self.stage.recorder.blame(f"not within {patience_s} s: {what}")
                return
            await asyncio.sleep(0.1)

    async def close(self) -> None:
        """Close all pods: nothing is left."""
        stage, recorder = self.stage, self.stage.recorder
        recorder.ledger.closing = recorder.order()
        for pod in stage.pods.values():
            self.sockets.end_all(pod)
            pod.stopping = True
        await self._within(10, "pods that do not close", *[pod.backplane.aclose() for pod in stage.pods.values()])
        await self._within(10, "readers that do not end", *stage.readers)
        for pod in stage.all_pods:
            pod.log.stats = pod.backplane.stats()
        # Whoever was cancelled needs a turn to end.
        await asyncio.sleep(0)
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task():
                recorder.blame(f"a task is left: {task.get_name()}")
        if stage.broker.link_count or stage.broker.channels:
            recorder.blame(
                f"the broker has {stage.broker.link_count} links left, and {len(stage.broker.channels)} channels"
            )

    async def _within(self, seconds: float, what: str, *awaitables: Any) -> None:
        """Wait for all; whoever needs longer, or raises, breaks a promise."""
        blame = self.stage.recorder.blame
        tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
        if not tasks:
            return
        done, late = await asyncio.wait(tasks, timeout=seconds)
        for task in done:
            if (error := task.exception()) is not None:
                blame(f"{what}: {type(error).__name__}: {error}")
        for task in late:
            blame(f"{what}: not within {seconds} s")
            task.cancel()
        if late:
            await asyncio.wait(late)


def _has_unmarked_tails(pod: Pod) -> bool:
    sender: Any = pod.backplane._sender  # pyright: ignore[reportPrivateUsage]
    return bool(sender.has_unmarked_tails)
