"""`backplane demo --check`: did every expected event cross pods, once, and nothing else? `Check`."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final

from attrs import define, field

from backplane_server._demo.clients import Client, client
from backplane_server._demo.report import END, Report
from backplane_server._demo.scenario import BOB, CLIENTS, IN_OUTAGE, JOB, PLAIN, STEPS, WHILE_AWAY, Held, Said
from backplane_server._demo.stage import PODS, Stage
from backplane_server._failure import FAILED, Failure

__all__ = ["Check"]

PROGRESS: Final = "progress"
"""The kind of the worker's events."""
PUBLISHED: Final = 200
"""The status of a publish that was accepted."""


@define
class Check:
    """Plays the scenario, and compares what arrived with what should have.

    Args:
        stage: The demo's processes, running.
        held: The clients as they connect; a test connects others than are expected.
    """

    _stage: Stage
    _held: Mapping[str, Held] = CLIENTS
    _report: Report = field(factory=Report, init=False)
    _ends: int = field(default=0, init=False)

    async def run(self) -> int:
        """Play the scenario, print what arrived, and return the exit code.

        Raises:
            Failure: A gateway does not publish.
        """
        broker = self._stage.broker
        async with self._clients() as clients:
            await self._say(PLAIN)
            await self._compare("one event after the other, from both pods", clients, PLAIN)
            await self._work(clients)
            await broker.kill()
            await self._say(IN_OUTAGE)
            await broker.start()
            for gateway in self._stage.gateways.values():
                await gateway.until_live()
            # Without a log a pod that was cut off may have missed them, and reports a gap.
            may_miss = not broker.has_log
            await self._compare("events published while the broker was down", clients, IN_OUTAGE, may_miss=may_miss)
            bob = next(it for it in clients if it.name == BOB)
        if broker.has_log:
            await self._come_back(bob)
        return self._report.show()

    @asynccontextmanager
    async def _clients(self) -> AsyncGenerator[Sequence[Client]]:
        async with AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(client(name, self._stage.gateways[it.pod], *it.targets))
                for name, it in self._held.items()
            ]

    async def _compare(
        self, title: str, clients: Sequence[Client], said: Sequence[Said], *, may_miss: bool = False
    ) -> None:
        await self._all_arrived(clients)
        self._report.begin(title)
        for it in said:
            for one in clients:
                self._report.compare(it.text, one, int(CLIENTS[one.name].gets(it.target)), may_miss=may_miss)
        self._report.end(clients)

    async def _work(self, clients: Sequence[Client]) -> None:
        """Have the worker do a job, and wait for its last event: the worker itself reports nothing."""
        await self._stage.jobs.start(JOB, steps=STEPS, pause_s=0.0)
        wanted = [round(100 * step / STEPS) for step in range(1, STEPS + 1)]
        for one in clients:
            if CLIENTS[one.name].gets(JOB):
                await one.until(lambda it: wanted[-1] in _progress(it))
        await self._all_arrived(clients)
        self._report.begin("a job's progress, from a process without sockets")
        for one in clients:
            gets = CLIENTS[one.name].gets(JOB)
            self._report.compare(PROGRESS, one, STEPS if gets else 0)
            if gets and _progress(one) != wanted:
                self._report.trouble.append(f"the progress of the job reached {one.name} as {_progress(one)}")
        self._report.end(clients)

    async def _come_back(self, bob: Client) -> None:
        """Let a client reconnect to the other pod after events that it missed."""
        await self._say(WHILE_AWAY)
        async with client(bob.name, self._stage.gateways[PODS[0]], "user:bob", last_id=bob.last_id) as back:
            await back.until(lambda it: it.has_caught_up)
            await self._compare("a client reconnected to the other pod", [back], WHILE_AWAY)

    async def _say(self, said: Sequence[Said]) -> None:
        for it in said:
            event = {"kind": it.text, "from": it.by, "sent_at": time.time() * 1000}
            status, answer = await self._stage.gateways[it.by].publish(it.target, event)
            if status != PUBLISHED:
                problem = f"{it.by} did not publish: {answer.decode(errors='replace')}"
                raise Failure(problem, "run the demo again", FAILED)

    async def _all_arrived(self, clients: Sequence[Client]) -> None:
        """Return once what each pod published has arrived everywhere.

        A pod's last event to a target arrives last. Between targets there is no order: they may
        travel over different lanes.
        """
        self._ends += 1
        targets = {target for one in clients for target in self._held[one.name].targets} | {"everyone"}
        last = [Said(pod, target, f"{END}{self._ends} of {pod} to {target}") for target in targets for pod in PODS]
        await self._say(last)
        for one in clients:
            for it in last:
                gets = self._held[one.name].gets(it.target)
                if gets and not await one.until(partial(_has, kind=it.text)):
                    self._report.trouble.append(f"{it.text!r} did not reach {one.name} on {one.pod}")


def _has(one: Client, kind: str) -> bool:
    return any(event.get("kind") == kind for event in one.events)


def _progress(one: Client) -> list[int]:
    return [event["percent"] for event in one.events if event.get("kind") == PROGRESS]
