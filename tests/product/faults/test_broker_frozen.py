"""A broker that is frozen, not dead: no socket tells, so the pod must find out by not hearing itself."""

from __future__ import annotations

import asyncio

import pytest
from backplane_core import Gap, RoutingName, Target, connect
from backplane_testservers import OwnBroker

from tests.support.waiting import until


@pytest.mark.parametrize("routing", ["broadcast", "interest"])
async def test_a_frozen_broker_is_found_and_nothing_arrives_twice_when_it_thaws(
    leaves_nothing: None, broker: OwnBroker, routing: RoutingName, channel: str
) -> None:
    async with (
        connect(broker.url, routing=routing, channel=channel, probe_interval_s=0.5) as here,
        connect(broker.url, routing=routing, channel=channel, probe_interval_s=0.5) as there,
    ):
        got: list[int] = []
        gaps: list[Gap] = []
        await there.attach("c1", got.append, on_gap=gaps.append)
        assert await there.associate("c1", Target.user("u1"))
        for number in range(100):
            await here.publish(Target.user("u1"), number)
        await until(lambda: len(got) == 100, "traffic before the freeze")

        broker.freeze()
        # What is written now lies in the frozen broker's socket, and is sent again on the next link.
        for number in range(100, 200):
            await here.publish(Target.user("u1"), number)
        async with asyncio.timeout(20):
            await here.wait_for_state("degraded")
            await there.wait_for_state("degraded")
        assert not here.ready()
        assert "frozen" in (here.ready().reason or "") or "answer" in (here.ready().reason or "")

        broker.thaw()
        await here.wait_for_state("live", timeout_s=20)
        await there.wait_for_state("live", timeout_s=20)
        await here.publish(Target.user("u1"), 200)
        await until(lambda: bool(got) and got[-1] == 200, "the event after the thaw")
        assert got == sorted(set(got)), "nothing twice, nothing out of order"
        assert gaps, "what is missing lies in a gap"
        assert {gap.cause for gap in gaps} <= {"reconnect", "sequence"}


async def test_an_idle_pod_notices_too(leaves_nothing: None, broker: OwnBroker, channel: str) -> None:
    async with connect(broker.url, channel=channel, probe_interval_s=0.5) as pod:
        await pod.flush(timeout_s=5)
        broker.freeze()
        await pod.wait_for_state("degraded", timeout_s=20)
        broker.thaw()
        await pod.wait_for_state("live", timeout_s=20)
        assert pod.stats().links == 2
