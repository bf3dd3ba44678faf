"""What the page's buttons do, and what it shows: `Desk`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any, Final

import attrs
from attrs import frozen
from backplane_core import BackplaneError, Target

from backplane_server._demo.jobs import TooManyJobsError
from backplane_server._demo.stage import Stage
from backplane_server._failure import Failure
from backplane_server._page.orders import OrderError, read_target

__all__ = ["Desk"]

ASK_S: Final = 0.5
"""Seconds to wait for the pods' answers: the page asks every second."""
MOST_AT_ONCE: Final = 200
LONGEST_TEXT: Final = 1_000
STEPS: Final = 20
STEP_S: Final = 0.25
KICKED: Final = 4403
"""A close code after which a client does not reconnect by itself."""


@frozen
class Desk:
    """Carries out the page's requests.

    Args:
        stage: The demo's processes, running.
    """

    stage: Stage

    def about(self) -> Mapping[str, object]:
        """Return what does not change: the pods and their URLs, the broker, and whether it has a log."""
        pods = [{"name": name, "url": it.address} for name, it in self.stage.gateways.items()]
        return {
            "kind": "demo",
            "broker": self.stage.broker.server.name,
            "has_log": self.stage.broker.has_log,
            "pods": pods,
        }

    async def status(self) -> Mapping[str, object]:
        """Return the current state of the broker, the pods and presence."""
        names = list(self.stage.gateways)
        samples = asyncio.gather(*[it.sample() for it in self.stage.gateways.values()])
        present, found = await asyncio.gather(self._present(), samples)
        pods = [
            {"name": name, **({"state": "gone"} if sample is None else attrs.asdict(sample))}
            for name, sample in zip(names, found, strict=True)
        ]
        return {"at": time.time(), "broker_runs": self.stage.broker.is_running, "pods": pods, **present}

    async def publish(self, asked: Mapping[str, Any]) -> Mapping[str, object]:
        """Publish a text on a pod, one or more times; return the pod's answer to the last one.

        Raises:
            OrderError: It can't be published.
        """
        gateway = self.stage.gateways.get(str(asked.get("pod")))
        if gateway is None:
            raise OrderError(f"publish on {' or '.join(self.stage.gateways)}")
        target, text, count = read_target(asked).text, str(asked.get("text", "")), asked.get("count", 1)
        if len(text) > LONGEST_TEXT or not isinstance(count, int) or not 1 <= count <= MOST_AT_ONCE:
            raise OrderError(f"at most {MOST_AT_ONCE} at once, of {LONGEST_TEXT} characters")
        answer: dict[str, object] = {}
        for number in range(1, count + 1):
            event = {
                "kind": "message",
                "text": f"{text} {number}" if count > 1 else text,
                "from": gateway.name,
                "sent_at": time.time() * 1000,
            }
            try:
                _, body = await gateway.publish(target, event)
            except OSError:
                raise OrderError(f"{gateway.name} does not answer: end the demo, and start it again") from None
            answer = json.loads(body)
            if "error" in answer:
                raise OrderError(str(answer["error"]))
        return answer

    async def kick(self, asked: Mapping[str, Any]) -> Mapping[str, object]:
        """Close the sockets of a target, on every pod; return how many.

        Raises:
            OrderError: It is not a target.
        """
        target = read_target(asked)
        answers = await self.stage.desk.fleet.close(target, code=KICKED, reason="kicked from the page")
        return {"closed": answers.total, "missing": [it.pod for it in answers.missing]}

    async def work(self, asked: Mapping[str, Any]) -> Mapping[str, object]:
        """Give the worker a job, whose progress is published to a target; return its number.

        Raises:
            OrderError: It has too many jobs.
        """
        try:
            return {"job": await self.stage.jobs.start(read_target(asked).text, steps=STEPS, pause_s=STEP_S)}
        except TooManyJobsError:
            raise OrderError("the worker has too many jobs: wait until one is done") from None

    async def kill_broker(self, _: Mapping[str, Any]) -> Mapping[str, object]:
        """Kill the broker."""
        await self.stage.broker.kill()
        return {}

    async def start_broker(self, _: Mapping[str, Any]) -> Mapping[str, object]:
        """Start the broker again.

        Raises:
            OrderError: It does not start.
        """
        try:
            await self.stage.broker.start()
        except Failure as failure:
            raise OrderError(failure.problem) from None
        return {}

    async def _present(self) -> Mapping[str, object]:
        """Return who is present, with the pods that hold them, and the pods that have not answered."""
        try:
            presence = await self.stage.desk.fleet.presence(Target.everyone(), timeout_s=ASK_S)
        except BackplaneError:
            return {"present": [], "missing": list(self.stage.gateways)}
        present = [
            {"name": key, "pods": sorted(pod for pod, held in presence.by_pod.items() if key in held)}
            for key in sorted(presence.present)
        ]
        return {"present": present, "missing": sorted(it.pod for it in presence.missing)}
