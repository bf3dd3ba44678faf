"""Planned moves: a broker that says beforehand that it will close a link costs nobody an event, nor a gap."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from backplane_core import LinkChanged, Target, Traits
from backplane_core._link import handover as handover_module
from backplane_core._link import move as move_module
from backplane_core._link import next_link as next_link_module
from backplane_core.testing import Faults, FaultyTransport

from tests.support.fleets import MemoryFleet
from tests.support.inside import beat, channel_of
from tests.support.sockets import Socket
from tests.support.waiting import until

USER = Target.user("u1")
LAGS = Faults(deliver_s=0.03)
"""Two links of one pod run apart: either may be ahead of the other."""


@pytest.fixture(autouse=True)
def no_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover_module, "SPREAD_S", 0.0)


@asynccontextmanager
async def traffic(publish: Callable[[int], Any]) -> AsyncGenerator[list[int]]:
    """Publish 0, 1, 2 … steadily while the block runs; hand out a list of what was published."""
    published: list[int] = []

    async def stream() -> None:
        while True:
            published.append(len(published))
            await publish(published[-1])
            await asyncio.sleep(0.001)

    task = asyncio.create_task(stream())
    try:
        yield published
    finally:
        task.cancel()
        await asyncio.wait({task})


def has_moved(records: list[Any], times: int) -> bool:
    moves = [record for record in records if isinstance(record, LinkChanged) and record.reason.startswith("moved: ")]
    return len(moves) == times


def _gone(old: Collection[Any]) -> bool:
    return all(link.is_dead for link in old)


async def complete(socket: Socket, published: list[int]) -> None:
    await until(lambda: len(socket.events) >= len(published), "all that was published")
    assert socket.events == published
    assert socket.gaps == []


@pytest.mark.parametrize("single_stream", [True, False])
async def test_a_planned_move_costs_no_event_no_copy_and_no_gap(fleet: MemoryFleet, *, single_stream: bool) -> None:
    records: list[Any] = []
    made = [
        FaultyTransport(fleet.broker, Traits(single_stream=single_stream), faults=LAGS if lags else Faults())
        for lags in (True, False)
    ]
    here = await fleet.pod(made[0], observer=records.append, probe_interval_s=2, beat_s=0.1)
    there = await fleet.pod(made[1], probe_interval_s=2, beat_s=0.1)
    at_here, at_there = (
        await fleet.socket(here, "h", Target.user("h")),
        await fleet.socket(there, "t", Target.user("t")),
    )
    async with (
        traffic(lambda number: there.publish(Target.user("h"), number)) as to_here,
        traffic(lambda number: here.publish(Target.user("t"), number)) as to_there,
    ):
        for move in range(1, 4):
            old = list(made[0]._open_links)
            for link in old:
                link.ask_to_leave("works ahead")
            await until(partial(has_moved, records, move), "the move")
            await until(partial(_gone, old), "the old link is closed")
        size = len(at_here.events)
        await until(lambda: len(at_here.events) > size + 50, "traffic after the last move")
    await complete(at_here, to_here)
    await complete(at_there, to_there)
    stats = here.stats()
    assert (stats.links, stats.collisions, stats.decode_errors, dict(stats.gaps)) == (4, 0, 0, {})
    assert stats.duplicates > 0, "both links were read"
    assert there.stats().decode_errors == 0
    assert fleet.broker.link_count == 2
    assert [record.reason for record in records if isinstance(record, LinkChanged)][1] == "moved: works ahead"


async def test_a_link_that_nothing_comes_by_moves_again_and_again(fleet: MemoryFleet) -> None:
    records: list[Any] = []
    slow, quick = FaultyTransport(fleet.broker, faults=LAGS), FaultyTransport(fleet.broker)
    here, there = await fleet.pod(slow, observer=records.append, probe_interval_s=60), await fleet.pod()
    socket = await fleet.socket(there, "t", USER)
    slow.open = quick.open  # type: ignore[method-assign]
    for move in range(1, 5):
        old = [*slow._open_links, *quick._open_links]
        for link in old:
            link.ask_to_leave("works ahead")
        await until(partial(has_moved, records, move), "the move")
        await until(partial(_gone, old), "the old link is closed")
        await here.publish(USER, move)
        await here.flush(timeout_s=5)
        await socket.has(move)
    assert socket.stream == [1, 2, 3, 4]
    assert [record.live for record in records if isinstance(record, LinkChanged)] == [True] * 5
    assert here.stats().decode_errors == there.stats().decode_errors == 0, "no mark got through"


async def test_what_only_the_next_link_heard_is_not_lost(fleet: MemoryFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    socket = await fleet.socket(here, "h", USER)
    switch: Any = handover_module.Handover._switch

    async def deaf_then_switched(relay: Any, old: Any, next_link: Any, move: Any) -> None:
        fleet.broker._subscribers.unsubscribe(old, channel_of(here, USER))
        await there.publish(USER, "late")
        await there.flush(timeout_s=5)
        beat(here)
        await here.flush(timeout_s=5)
        await switch(relay, old, next_link, move)

    monkeypatch.setattr(handover_module.Handover, "_switch", deaf_then_switched)
    next(iter(fleet.broker._subscribers.links)).ask_to_leave("works ahead")
    await until(lambda: here.stats().links == 2, "the move")
    await socket.has(1)
    assert socket.stream == ["late"]
    assert here.stats().collisions == 0, "a beat that came by both links is no other pod's"


async def test_an_association_during_a_move_holds_and_a_dissociation_too(fleet: MemoryFleet) -> None:
    transport = FaultyTransport(fleet.broker, faults=Faults(subscribe_s=0.02))
    here, there = await fleet.pod(transport), await fleet.pod()
    socket = await fleet.socket(here, "h", Target.user("left"))

    async def churn(number: int) -> None:
        target = Target.user(f"n{number}")
        if await here.associate("h", target):
            await there.publish(target, number)
            await until(lambda: number in socket.events, f"what was published to n{number}")
        await here.dissociate("h", target)

    async with traffic(churn) as published:
        next(iter(transport._open_links)).ask_to_leave("works ahead")
        await here.dissociate("h", Target.user("left"))
        await until(lambda: here.stats().links == 2, "the move")
        at = len(published)
        await until(lambda: len(published) > at + 10, "more associations")
    await here.dissociate("h", Target.user(f"n{published[-1]}"))
    assert socket.events == sorted(set(socket.events))
    assert socket.gaps == []
    await until(
        lambda: not any(":u" in channel or "user" in channel for channel in fleet.broker.channels),
        f"what was left is not heard: {[*fleet.broker.channels]}",
    )


async def test_an_association_amid_a_switch_holds_afterwards(
    fleet: MemoryFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    socket = await fleet.socket(here, "h")
    switch: Any = handover_module.Handover._switch

    async def associated_then_switched(relay: Any, old: Any, next_link: Any, move: Any) -> None:
        assert await here.associate("h", USER) is True
        await switch(relay, old, next_link, move)

    monkeypatch.setattr(handover_module.Handover, "_switch", associated_then_switched)
    next(iter(fleet.broker._subscribers.links)).ask_to_leave("works ahead")
    await until(lambda: here.stats().links == 2, "the move")
    await until(lambda: fleet.broker.link_count == 2, "the old link is closed")
    await there.publish(USER, "heard")
    await socket.has(1)
    assert socket.stream == ["heard"]


async def test_a_pod_that_finds_no_other_link_stays_and_tells_the_end(fleet: MemoryFleet) -> None:
    transport = FaultyTransport(fleet.broker)
    here, there = await fleet.pod(transport), await fleet.pod()
    socket = await fleet.socket(here, "h", USER)
    transport.faults = Faults(refuse_open=1)
    old = next(iter(transport._open_links))
    old.ask_to_leave("works ahead")
    async with traffic(lambda number: there.publish(USER, number)) as published:
        await until(lambda: len(published) > 300, "traffic meanwhile")
        assert here.stats().links == 1
        assert socket.gaps == []
        old.die("the works begin")
        await here.wait_for_state("degraded", timeout_s=5)
        transport.faults = Faults()
        await here.wait_for_state("live", timeout_s=5)
        at = len(published)
        await until(lambda: at + 10 in socket.events, "traffic afterwards")
    assert [gap.cause for gap in socket.gaps] == ["reconnect"]


@pytest.mark.parametrize("fault", [Faults(cut_subscribe=1), Faults(hang_subscribe=1), Faults(hang_open=1)])
async def test_a_next_link_that_fails_costs_nothing(fleet: MemoryFleet, fault: Faults) -> None:
    transport, sound = FaultyTransport(fleet.broker), FaultyTransport(fleet.broker)
    open_next, transport.open = transport.open, sound.open  # type: ignore[method-assign]
    here, there = await fleet.pod(transport, connect_timeout_s=0.1), await fleet.pod()
    socket = await fleet.socket(here, "h", USER)
    transport.open = open_next  # type: ignore[method-assign]
    async with traffic(lambda number: there.publish(USER, number)) as published:
        transport.faults = fault
        next(iter(sound._open_links)).ask_to_leave("works ahead")
        await until(lambda: len(published) > 500, "traffic meanwhile")
        assert here.stats().links == 1
        transport.faults = Faults()
        await until(lambda: here.stats().links == 2, "the move")
    await complete(socket, published)


async def test_where_copies_cannot_be_told_the_link_is_replaced_with_a_gap(fleet: MemoryFleet) -> None:
    here = await fleet.pod()
    socket = await fleet.socket(here, "h", USER)
    foreign = fleet.broker.open()
    await foreign.send([(channel_of(here, USER), b'{"origin":"x","target":{"User":"u1"},"event":0}')])
    await socket.has(1)
    for link in [*fleet.broker._subscribers.links]:
        link.ask_to_leave("works ahead")
    await until(lambda: here.stats().links == 2, "another link")
    await until(lambda: len(socket.gaps) == 1, "the gap")
    assert socket.gaps[0].cause == "reconnect"
    assert "works ahead" in socket.gaps[0].reason
    assert socket.events == [0]
    await foreign.aclose()


async def test_a_node_that_passes_nothing_on_is_left_with_a_gap(
    fleet: MemoryFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(move_module, "MARK_S", 0.05)
    transport = FaultyTransport(fleet.broker)
    here = await fleet.pod(transport)
    socket = await fleet.socket(here, "h", USER)

    def deaf_to_marks(_self: Any, batch: Any) -> None:
        """The next link hears no mark."""

    monkeypatch.setattr(next_link_module.NextLink, "_hold", deaf_to_marks)
    next(iter(transport._open_links)).ask_to_leave("works ahead")
    await until(lambda: here.stats().links == 2, "the move")
    await until(lambda: len(socket.gaps) == 1, "the gap")
    assert "forwards nothing to the next one" in socket.gaps[0].reason


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.2, 0.3, 0.4, 0.5])
async def test_closing_during_a_move_leaves_nothing(leaves_nothing: None, after_s: float) -> None:
    fleet = MemoryFleet("interest")
    async with fleet.stack:
        pod = await fleet.pod(FaultyTransport(fleet.broker, faults=LAGS))
        await fleet.socket(pod, "h", USER)
        fleet.broker.ask_to_leave()
        await asyncio.sleep(after_s)  # wherever it may be then
        await pod.aclose()
        assert fleet.broker.link_count == 0
