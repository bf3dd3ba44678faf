"""Pods that are killed, or replaced one after the other, under load: the others notice nothing and miss nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from backplane_testservers import ProcessBroker, RedisServer

from tests.conftest import StartServer
from tests.product.faults.asking import clients, monitored_nats, subscriptions
from tests.product.faults.pod_fleet import Member, PodFleet
from tests.support.waiting import until

pytestmark = pytest.mark.diagonal  # each pod is a process, whose end is the same over each pair

TARGETS = ["u0", "u1", "u2"]
RATE_PER_S = 200


@pytest.fixture(params=["redis", "nats"])
def broker(request: pytest.FixtureRequest, start: StartServer) -> ProcessBroker:
    return start(RedisServer() if request.param == "redis" else monitored_nats())


@pytest.fixture
async def pods(broker: ProcessBroker, routing: str, channel: str) -> AsyncIterator[PodFleet]:
    async with PodFleet(broker, {"channel": channel, "routing": routing}) as pods:
        yield pods


async def join(pods: PodFleet) -> Member:
    """Start a pod with sockets, that publishes."""
    pod = await pods.pod()
    for target in TARGETS:
        await pod.socket(target)
    await pod.ask(do="stream", name=pod.name, targets=TARGETS, rate=RATE_PER_S)
    return pod


async def more(pods: PodFleet, count: int, *listeners: Member) -> None:
    """Wait until each socket of these got so many more events."""
    witnesses = [witness for pod in listeners for witness in pod.witnesses.values()]
    goals = {witness.name: len(witness.events) + count for witness in witnesses}
    await until(lambda: all(len(w.events) >= goals[w.name] for w in witnesses), "traffic goes on", 60)


async def quiet(pods: PodFleet, *alive: Member) -> None:
    """Stop all streams, and wait for their last events."""
    for pod in alive:
        assert await pod.ask(do="quiet") == {"quiet": True}
    living = {pod.name for pod in alive}
    last = {event[:2]: event for event in pods.ledger.at if event[0] in living}
    wanted = {
        witness.name: [event for event in last.values() if event[1] in witness.targets]
        for pod in alive
        for witness in pod.witnesses.values()
    }
    witnesses = [witness for pod in alive for witness in pod.witnesses.values()]
    await until(lambda: all(e in w.events[-500:] for w in witnesses for e in wanted[w.name]), "the last events", 60)


async def test_a_killed_pod_costs_the_others_nothing(pods: PodFleet, broker: ProcessBroker) -> None:
    one, two, doomed = [await join(pods) for _ in range(3)]
    before = subscriptions(broker)
    assert clients(broker) == 3
    await more(pods, 100, one, two, doomed)
    await doomed.kill()
    await until(lambda: clients(broker) == 2, "the broker is rid of it", 10)
    assert subscriptions(broker) < before or isinstance(broker, RedisServer), "and of its subscriptions"
    await more(pods, 100, one, two)
    await quiet(pods, one, two)
    pods.ledger.assert_clean()
    for pod in (one, two):
        stats = await pod.ask(do="stats")
        assert (stats["links"], stats["gaps"], stats["dropped"]) == (1, {}, {})
        for witness in pod.witnesses.values():
            lost = {event[0] for event in pods.ledger.verdict(witness).missing}
            assert lost <= {doomed.name}, "of the living nothing is missing, and of the dead a tail at most"


@pytest.mark.timeout(300)
async def test_pods_replaced_one_after_the_other_lose_nothing_and_are_live_before_they_say_so(
    pods: PodFleet, broker: ProcessBroker
) -> None:
    fleet = [await join(pods) for _ in range(3)]
    base = subscriptions(broker)
    for place in range(3):
        await more(pods, 50, *fleet)
        # First the new one, then the old one goes: as an orchestrator rolls.
        successor = await join(pods)
        await fleet[place].leave()
        fleet[place] = successor
        await until(lambda: clients(broker) == 3, "the broker has three pods", 10)
    await more(pods, 50, *fleet)
    assert subscriptions(broker) == base, "nothing stale is left"
    await quiet(pods, *fleet)
    pods.ledger.assert_clean()
    assert pods.ledger.missing == 0, "not one event, of the old or the new, at the old or the new"
    for pod in fleet:
        stats = await pod.ask(do="stats")
        assert (stats["links"], stats["gaps"], stats["dropped"]) == (1, {}, {})


async def test_a_wall_clock_that_jumps_changes_no_decision(pods: PodFleet) -> None:
    """An hour forth in one pod, an hour back in the other: beats, deadlines and numbers go by the monotonic clock."""
    pods.options["probe_interval_s"] = 2.0  # half of that is what a broker on a busy machine may take
    ahead, behind = await join(pods), await join(pods)
    await more(pods, 50, ahead, behind)
    assert await ahead.ask(do="step_clock", by=3_600) == {"stepped": 3_600}
    assert await behind.ask(do="step_clock", by=-3_600) == {"stepped": -3_600}
    await more(pods, 200, ahead, behind)
    assert await behind.ask(do="step_clock", by=7_200) == {"stepped": 7_200}
    # Several probe intervals: a deadline by the wall clock would pass in the meantime.
    await more(pods, 200, ahead, behind)
    await quiet(pods, ahead, behind)
    pods.ledger.assert_clean()
    assert pods.ledger.missing == 0
    for pod in (ahead, behind):
        stats = await pod.ask(do="stats")
        assert (stats["links"], stats["gaps"], stats["dropped"]) == (1, {}, {})
