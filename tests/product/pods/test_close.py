"""Closing: within its deadline, whatever the broker does; nothing is left, and use after it is an error."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from backplane_core import BaseBackplane, ClosedError, RoutingName, Target, connect
from backplane_testservers import Broker, OwnBroker

from tests.support.fleets import Fleet
from tests.support.waiting import until


async def test_closing_twice_and_at_once_is_fine(fleet: Fleet) -> None:
    pod = await fleet.pod()
    await asyncio.gather(pod.aclose(), pod.aclose())
    await pod.aclose()
    assert pod.state == "closed"


@pytest.mark.every_loop
async def test_closing_sends_what_was_accepted(fleet: Fleet) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    socket = await fleet.socket(there, "c1", Target.user("u1"))
    for number in range(3_000):
        here.publish_nowait(Target.user("u1"), number)
    await here.aclose()
    assert await socket.has(3_000) == list(range(3_000))
    assert here.stats().dropped == {}


USES: dict[str, Callable[[BaseBackplane], Awaitable[object]]] = {
    "publish": lambda pod: pod.publish(Target.user("u1"), 1),
    "attach": lambda pod: pod.attach("c1", print),
    "associate": lambda pod: pod.associate("c1", Target.user("u1")),
    "connection": lambda pod: pod.connection("c1").__aenter__(),
    "enter": lambda pod: pod.__aenter__(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
async def test_use_after_close_is_a_closed_error(
    fleet: Fleet, use: Callable[[BaseBackplane], Awaitable[object]]
) -> None:
    pod = await fleet.pod()
    await pod.aclose()
    with pytest.raises(ClosedError):
        await use(pod)
    await pod.detach("c1")


async def test_connections_end_when_their_backplane_closes(fleet: Fleet) -> None:
    pod = await fleet.pod()
    async with pod.connection("c1", Target.user("u1")) as connection:
        await pod.publish(Target.user("u1"), 1)
        await pod.aclose()
        assert [event.value async for event in connection] == [1]


@pytest.mark.every_loop
@pytest.mark.parametrize("routing", ["broadcast", "interest"])
@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_closing_with_a_broker_gone_ends_within_its_deadline_and_counts_what_is_left(
    leaves_nothing: None, broker: OwnBroker, routing: RoutingName, fault: str, channel: str
) -> None:
    pod = await connect(broker.url, routing=routing, channel=channel)
    await pod.attach("c1", lambda _: None)
    await pod.flush(timeout_s=5)
    getattr(broker, fault)()
    for number in range(10):
        await pod.publish(Target.user("u1"), number)
    started = time.monotonic()
    await pod.aclose(drain_s=0.3)
    assert time.monotonic() - started < 0.3 + 5
    assert pod.state == "closed"
    assert pod.stats().dropped == {"closed": 10}


@pytest.mark.parametrize("turns", range(12))
async def test_a_cancelled_close_leaves_nothing(
    leaves_nothing: None, shared_broker: Broker, channel: str, turns: int
) -> None:
    pod = await connect(shared_broker.url, routing="interest", channel=channel)
    await pod.attach("c1", lambda _: None)
    for number in range(100):
        await pod.publish(Target.user("u1"), number)
    closing = asyncio.create_task(pod.aclose())
    for _ in range(turns):
        await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    await pod.aclose()
    assert pod.state == "closed"


@pytest.mark.parametrize("turns", range(0, 40, 3))
async def test_a_cancelled_connect_leaves_nothing(
    leaves_nothing: None, shared_broker: Broker, channel: str, turns: int
) -> None:
    async def open_and_close() -> None:
        async with connect(shared_broker.url, channel=channel):
            pass

    opening = asyncio.create_task(open_and_close())
    for _ in range(turns):
        await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])


async def test_associate_returns_at_once_when_the_broker_dies_meanwhile(broker: OwnBroker, channel: str) -> None:
    async with connect(broker.url, routing="interest", channel=channel) as pod:
        await pod.attach("c1", lambda _: None)
        broker.freeze()
        waiting = asyncio.create_task(pod.associate("c1", Target.user("u1")))
        await asyncio.sleep(0)
        broker.kill()
        async with asyncio.timeout(10):
            assert await waiting is False
        await until(lambda: pod.state == "degraded", "degraded")
        assert await pod.associate("c1", Target.user("u2")) is False
        await pod.aclose(drain_s=0)
