"""A broker killed and restarted under load: publish keeps returning, the fleet heals, every loss lies inside a Gap."""

from __future__ import annotations

import asyncio
import time

import pytest
from backplane_core import Gap, Target, connect
from backplane_core._link.backoff import Backoff
from backplane_testservers import OwnBroker

from tests.conftest import loop_name
from tests.product.faults.rig import Pod, Rig
from tests.support.waiting import until

KILLS = 5
KILLS_ON_UVLOOP = 1
KILLS_LONG = 20


def outages(pod: Pod) -> list[Gap]:
    return [gap for gap in pod.gaps if gap.cause == "reconnect"]


@pytest.mark.every_loop
@pytest.mark.timeout(600)
async def test_a_killed_broker_costs_nothing_but_what_a_gap_tells(rig: Rig, broker: OwnBroker, *, long: bool) -> None:
    here, there, third = [await rig.pod() for _ in range(3)]
    for pod in (here, there, third):
        await rig.sockets(pod, 5)
    kills = KILLS_LONG if long else KILLS if loop_name() == "asyncio" else KILLS_ON_UVLOOP
    async with rig.traffic(here, there):
        for kill in range(1, kills + 1):
            await rig.more(40, "traffic before the kill")
            broker.kill()
            await rig.all_degraded()
            await rig.more_published(20)
            broker.restart()
            await rig.all_live()
            await rig.more(1, "the first remote delivery after the restart")
            for pod in rig.pods:
                assert pod.links == kill + 1
                assert len(outages(pod)) == kill, "one gap per outage"
        await rig.more(40, "traffic after the last restart")
    await rig.settle()
    rig.ledger.assert_clean()
    for pod in rig.pods:
        assert pod.backplane.stats().dropped == {}, "the outbox held all of it"
        assert {gap.cause for gap in pod.gaps} == {"reconnect"}
    inside = sum([gap.until - gap.since for gap in outages(there)])
    total = max(rig.ledger.at.values()) - min(rig.ledger.at.values())
    assert inside < 0.9 * total, "the gaps are short enough to mean something"


async def test_an_association_made_while_the_broker_is_away_is_confirmed_later_with_a_gap(
    leaves_nothing: None, broker: OwnBroker, channel: str
) -> None:
    async with (
        connect(broker.url, routing="interest", channel=channel) as here,
        connect(broker.url, routing="interest", channel=channel) as there,
    ):
        broker.kill()
        await until(lambda: here.state == there.state == "degraded", "both pods notice")
        got: list[str] = []
        gaps: list[Gap] = []
        before = time.time()
        await there.attach("c1", got.append, on_gap=gaps.append)
        assert await there.associate("c1", Target.user("u1")) is False
        broker.restart()
        await until(lambda: here.state == there.state == "live", "live again")
        assert [gap.cause for gap in gaps] == ["reconnect"]
        assert before <= gaps[0].since <= gaps[0].until <= time.time()
        await here.publish(Target.user("u1"), "after")
        await until(lambda: got == ["after"], "the event after the restart")


async def test_a_broker_that_is_back_is_found_by_the_next_attempt_which_is_at_most_2_s_away(
    leaves_nothing: None, broker: OwnBroker, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    lost = Backoff.lost

    def record(self: Backoff, now: float, *, retryable: bool = True, silent: bool = False) -> float:
        waits.append(lost(self, now, retryable=retryable, silent=silent))
        return waits[-1]

    monkeypatch.setattr(Backoff, "lost", record)
    monkeypatch.setattr("backplane_core._link.backoff.PATIENCE_S", 1.0)
    async with connect(broker.url, channel=channel) as pod:
        broker.kill()
        await until(lambda: max(waits, default=0) > 1, "the waits have grown", 60)
        await asyncio.to_thread(broker.start)
        failed = len(waits)
        await pod.wait_for_state("live", timeout_s=60)
        assert len(waits) - failed <= 1, "none but one that was under way when the broker came up"
    assert max(waits) <= 2.0
