"""Closing amid a storm of publishes, and cancellation at every turn of the loop: nothing is lost, nothing is left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import pytest
from backplane_core import BaseBackplane, ClosedError, DistributedBackplane, Target, connect
from backplane_testservers import ProcessBroker, RedisServer

from tests.conftest import StartServer
from tests.product.faults.asking import clients, monitored_nats, subscriptions
from tests.product.faults.rig import Rig
from tests.support.waiting import until

PUBLISHES = 20_000
PUBLISHERS = 20
MANY_TURNS = 2_000


@pytest.mark.parametrize("after", [1, 300, 5_000])
async def test_a_storm_of_publishes_racing_close_is_refused_or_delivered_everywhere(rig: Rig, after: int) -> None:
    here, there = await rig.pod(), await rig.pod()
    rig.targets = 1
    local, far = await rig.socket(here, "u0"), await rig.socket(there, "u0")
    accepted, refused = 0, 0

    async def publish() -> None:
        nonlocal accepted, refused
        for _ in range(PUBLISHES // PUBLISHERS):
            event = rig.ledger.new(here.name, "u0")
            try:
                assert await here.backplane.publish(Target.user("u0"), event) == 1
                accepted += 1
            except ClosedError:
                refused += 1
                del rig.ledger.at[event]

    async def close() -> None:
        await until(lambda: accepted >= after, "the storm has begun")
        await here.backplane.aclose(drain_s=30)
        await here.backplane.aclose()

    async with asyncio.TaskGroup() as group:
        group.create_task(close())
        for _ in range(PUBLISHERS):
            group.create_task(publish())
    assert accepted + refused == PUBLISHES
    assert accepted >= after
    assert refused, "close did race them"
    assert here.backplane.stats().dropped == {}
    await until(lambda: len(far.events) >= accepted, "what was accepted arrives", 30)
    rig.ledger.assert_clean()
    assert far.events == local.events == list(rig.ledger.at)


Step: TypeAlias = Callable[[DistributedBackplane], Awaitable[object]]


async def enter(pod: BaseBackplane) -> None:
    async with pod.connection("c2", Target.user("u2"), Target.user("u3")):
        pass


async def publish_at_once(pod: BaseBackplane) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(200):
            group.create_task(pod.publish(Target.user("u1"), number))


STEPS: dict[str, Step] = {
    "attach": lambda pod: pod.attach("c2", print),
    "associate": lambda pod: pod.associate("c1", Target.user("u9")),
    "connection": enter,
    "publish": publish_at_once,
    "flush": lambda pod: pod.flush(timeout_s=10),
    "drain": lambda pod: pod.drain(timeout_s=10),
    "close": lambda pod: pod.aclose(),
}


@pytest.fixture
def broker(request: pytest.FixtureRequest, start: StartServer) -> ProcessBroker:
    return start(RedisServer() if getattr(request, "param", "redis") == "redis" else monitored_nats())


async def cancelled_after(turns: int, work: Awaitable[object]) -> bool:
    """Run it for so many turns of the loop, then cancel it; return whether it was still at work."""
    task = asyncio.ensure_future(work)
    for _ in range(turns):
        await asyncio.sleep(0)
        if task.done():
            break
    task.cancel()
    await asyncio.wait([task])
    if task.cancelled():
        return True
    task.result()
    return False


@pytest.mark.timeout(300)
@pytest.mark.parametrize("broker", ["redis", "nats"], indirect=True)
@pytest.mark.parametrize("step", STEPS)
async def test_what_is_cancelled_at_any_turn_leaves_nothing(
    leaves_nothing: None, broker: ProcessBroker, channel: str, step: str
) -> None:
    turns = 0
    for turns in range(MANY_TURNS):
        pod = await connect(broker.url, routing="interest", channel=channel)
        assert isinstance(pod, DistributedBackplane)
        await pod.attach("c1", lambda _: None)
        assert await pod.associate("c1", Target.user("u1"))
        for number in range(20):
            pod.publish_nowait(Target.user("u1"), number)
        cut = await cancelled_after(turns, STEPS[step](pod))
        if pod.state == "live":
            # It still works, whatever was cancelled.
            assert await pod.associate("c1", Target.user("u4")) is True
            assert await pod.publish(Target.user("u4"), 1) == 1
            await pod.flush(timeout_s=10)
        await pod.aclose()
        assert pod.state == "closed"
        if not cut:
            break
    assert turns > 0, "it was cut at least once"
    assert turns < MANY_TURNS - 1, "in the end it ran through"
    await until(lambda: clients(broker) == 0, "the broker has no client of ours")
    await until(lambda: subscriptions(broker) == 0, "and no subscription")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("broker", ["redis", "nats"], indirect=True)
async def test_an_open_that_is_cancelled_at_any_turn_leaves_nothing(
    leaves_nothing: None, broker: ProcessBroker, channel: str
) -> None:
    async def open_and_close() -> None:
        async with connect(broker.url, channel=channel):
            pass

    for turns in range(MANY_TURNS):
        if not await cancelled_after(turns, open_and_close()):
            assert turns > 1
            break
    else:
        pytest.fail("it never ran through")
    await until(lambda: clients(broker) == 0, "the broker has no client of ours")
