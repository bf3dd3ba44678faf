"""A pod that is late itself does not take that for a broker that does not answer: the move goes on."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from backplane_core import Target
from backplane_core._link import handover as handover_module
from backplane_core.testing import Faults, FaultyTransport

from tests.support.fleets import MemoryFleet
from tests.support.waiting import until

USER = Target.user("u1")


@pytest.fixture(autouse=True)
def no_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover_module, "SPREAD_S", 0.0)


async def test_a_reader_that_is_busy_does_not_make_a_move_fail(fleet: MemoryFleet) -> None:
    transport = FaultyTransport(fleet.broker)
    here = await fleet.pod(transport, connect_timeout_s=1.0)
    there = await fleet.pod()
    gaps: list[Any] = []
    took: list[Any] = []

    def slow(event: Any) -> None:
        took.append(event)
        time.sleep(0.003)  # a sink that holds the loop: three seconds in all

    await here.attach("h", slow, on_gap=gaps.append)
    await here.associate("h", USER)
    next(iter(transport._open_links)).ask_to_leave("works ahead")
    for number in range(1_000):
        await there.publish(USER, number)
    await until(lambda: here.stats().links == 2, "the move")
    await until(lambda: len(took) == 1_000, "all that was published")
    assert took == [*range(1_000)]
    assert gaps == []


async def test_a_host_that_holds_the_loop_does_not_make_a_move_fail(
    fleet: MemoryFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeout_s, held = 1.0, 0
    here = await fleet.pod(FaultyTransport(fleet.broker, faults=Faults(confirm_s=0.05)), connect_timeout_s=timeout_s)
    socket = await fleet.socket(here, "h", USER)
    send_mark: Any = handover_module.Handover._send_mark

    async def held_once(relay: Any, old: Any) -> None:
        nonlocal held
        if relay.holds_sends and not held:  # too late to stay on the old link
            held += 1
            # While the answer is on its way: when the loop goes on, the deadline for it has passed, too.
            asyncio.get_running_loop().call_later(0.001, time.sleep, 1.5 * timeout_s)
        await send_mark(relay, old)

    monkeypatch.setattr(handover_module.Handover, "_send_mark", held_once)
    next(iter(fleet.broker._subscribers.links)).ask_to_leave("works ahead")
    await until(lambda: here.stats().links == 2, "the move")
    assert held, "the loop stood still"
    assert socket.gaps == []
