"""Events at the broker's limit to the byte, and a limit that shrinks under a pod that runs."""

from __future__ import annotations

import pytest
from backplane_core import EventTooLargeError, Target
from backplane_testservers import NatsServer

from tests.conftest import StartServer
from tests.product.faults.rig import Rig
from tests.support.waiting import until

LIMIT = 4_096
LOWER = 2_048


@pytest.fixture
def broker(start: StartServer) -> NatsServer:
    return start(NatsServer(max_payload=LIMIT))


async def test_the_largest_frame_that_fits_arrives_and_one_byte_more_is_refused_before_anyone_has_it(rig: Rig) -> None:
    here, there = await rig.pod(), await rig.pod()
    got: list[str] = []
    local: list[str] = []
    await there.backplane.attach("far", got.append)
    await here.backplane.attach("near", local.append)
    for socket, pod in (("far", there), ("near", here)):
        assert await pod.backplane.associate(socket, Target.user("u1"))
    with pytest.raises(EventTooLargeError) as refused:
        await here.backplane.publish(Target.user("u1"), "x" * LIMIT)
    over = refused.value.size - refused.value.limit
    fits = "x" * (LIMIT - over)
    assert refused.value.limit == LIMIT
    with pytest.raises(EventTooLargeError) as refused:
        await here.backplane.publish(Target.user("u1"), fits + "x")
    assert (refused.value.size, refused.value.limit) == (LIMIT + 1, LIMIT)
    assert local == []
    assert await here.backplane.publish(Target.user("u1"), fits) == 1
    await until(lambda: bool(got), "the largest one arrives")
    assert got == local == [fits]
    assert here.links == there.links == 1
    assert here.backplane.stats().dropped == {}


@pytest.mark.parametrize("how", ["reload", "restart"])
async def test_a_limit_that_shrinks_costs_the_large_events_counted_and_no_other(
    rig: Rig, broker: NatsServer, how: str
) -> None:
    here, there = await rig.pod(), await rig.pod()
    rig.targets = 1
    witness = await rig.socket(there, "u0")
    local = await rig.socket(here, "u0")
    await rig.publish(here, 10)
    await rig.more(0, "traffic before")
    await here.backplane.flush(timeout_s=10)
    broker.max_payload = LOWER
    if how == "restart":
        broker.kill()
        await rig.all_degraded()
    else:
        broker.reload()
    large = rig.ledger.new(here.name, "u0")
    await here.backplane.publish(Target.user("u0"), [*large, "x" * (LOWER + 500)])
    await rig.publish(here, 20)
    if how == "restart":
        broker.start()
    await until(lambda: here.links == 2 and here.is_live, "a link that knows the new limit", 60)
    await rig.settle()
    rig.ledger.assert_clean()
    assert local.events[10] == large, "this pod's own sockets had it already"
    missing = rig.ledger.verdict(witness).missing
    assert large in missing
    if how == "reload":
        assert missing == [large]  # over a restart the other pod may come back later, which a gap tells it
    assert here.backplane.stats().dropped == {"too_large": 1}
    with pytest.raises(EventTooLargeError) as refused:
        await here.backplane.publish(Target.user("u0"), "x" * (LOWER + 500))
    assert refused.value.limit == LOWER, "from now on it is told at once"
    assert here.links == 2
