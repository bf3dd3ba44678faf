"""A connection that nobody addresses by its id is not subscribed to by its id."""

from __future__ import annotations

import pytest
from backplane_core import RoutingName, Target, connect
from backplane_testservers import Broker

from tests.support.inside import subscription_count

ANN = Target.user("ann")


@pytest.fixture(params=["broadcast", "interest"])
def routing(request: pytest.FixtureRequest) -> RoutingName:
    return request.param  # type: ignore[no-any-return]


async def test_it_gets_the_events_of_its_targets_and_none_of_its_id(
    shared_broker: Broker, channel: str, routing: RoutingName
) -> None:
    async with (
        connect(shared_broker.url, channel=channel, routing=routing) as here,
        connect(shared_broker.url, channel=channel, routing=routing) as there,
        here.connection("c1", ANN, direct=False) as connection,
    ):
        for pod, name in ((here, "here"), (there, "there")):
            await pod.publish(Target.connection("c1"), f"for c1, from {name}")
            await pod.publish([Target.connection("c1"), ANN], f"for both, from {name}")
            event = await anext(connection)
            assert (event.value, event.target) == (f"for both, from {name}", ANN)
        await there.publish(Target.everyone(), "for everyone")
        assert (await anext(connection)).value == "for everyone"
        assert here.connections_of(Target.connection("c1")) == frozenset()
        assert here.connections_of(ANN) == {"c1"}
        assert (here.connection_count, here.stats().targets) == (1, 1)
    assert here.stats().targets == 0


async def test_it_costs_the_broker_no_subscription(shared_broker: Broker, channel: str) -> None:
    async with connect(shared_broker.url, channel=channel, routing="interest") as pod:
        before = subscription_count(pod)
        async with pod.connection("c1", ANN, direct=False):
            assert subscription_count(pod) == before + 1
            async with pod.connection("c2", ANN):
                assert subscription_count(pod) == before + 2


async def test_its_id_can_still_be_one_of_its_targets_and_is_taken_over_either_way() -> None:
    async with connect() as pod:
        own = Target.connection("c1")
        async with pod.connection("c1", ANN, direct=False) as first:
            assert await pod.publish(own, 1) == 0
            await pod.associate("c1", own)
            assert await pod.publish(own, 2) == 1
            assert pod.targets_of("c1") == {ANN, own}
            async with pod.connection("c1") as second:
                assert await pod.publish(own, 3) == 1
                async with pod.connection("c1", direct=False) as third:
                    assert await pod.publish(own, 4) == 0
                    received: list[object] = []
                    await pod.attach("c1", received.append)
                    assert await pod.publish(own, 5) == 1
                    assert received == [5]
                    assert [event.value async for event in first] == [2]
                    assert [event.value async for event in second] == [3]
                    assert [event.value async for event in third] == []
                    await pod.detach("c1")
        assert pod.stats().targets == 0
