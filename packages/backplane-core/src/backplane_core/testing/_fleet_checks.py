"""Checks on a fleet over the transport: who gets what, how often, in which order."""

from __future__ import annotations

from typing import Final

from backplane_core._routing import RoutingName
from backplane_core.target import Target
from backplane_core.testing._harness import FleetCheck, Harness, promised
from backplane_core.testing._pods import attached, equal, pods, settled

__all__ = ["CHECKS", "check_a_publish_reaches_the_other_pod"]


@promised
async def check_a_publish_reaches_the_other_pod(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """A publish reaches the target's connections on every pod, each once, and counts the local ones alone."""
    async with pods(harness, routing, 2) as (here, there):
        local = await attached(here, Target.user("u1"))
        remote = await attached(there, Target.user("u1"))
        equal(await here.publish(Target.user("u1"), {"n": 1}), 1, "publish() counts its own pod's deliveries")
        equal(await there.publish(Target.user("u2"), {"n": 2}), 0, "publish() to nobody counts nobody")
        await settled([here, there], [local, remote])
        equal(local.events, [{"n": 1}], "what the publishing pod's connection got")
        equal(remote.events, [{"n": 1}], "what the other pod's connection got")


CHECKS: Final[tuple[FleetCheck, ...]] = (check_a_publish_reaches_the_other_pod,)
