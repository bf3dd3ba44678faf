"""What publishers may use up in one turn of the loop: in equal shares, and anew only once the loop has turned."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import pytest
from attrs import define, field
from backplane_core import BaseBackplane, DistributedBackplane, InMemoryBackplane, Target
from backplane_core._local.loop_budget import BYTES_PER_UNIT, SINKS_PER_UNIT, UNITS, LoopBudget
from backplane_core.testing import MemoryBroker, MemoryTransport

USER = Target.user("u1")


@define
class Turns:
    """Counts the turns of the loop."""

    count: int = 0
    _next: asyncio.Handle | None = field(default=None, init=False)

    def turn(self) -> None:
        self.count += 1
        self._next = asyncio.get_running_loop().call_soon(self.turn)

    @contextmanager
    def counting(self) -> Generator[None]:
        self.turn()
        try:
            yield
        finally:
            assert self._next is not None
            self._next.cancel()


async def taken_per_turn(backplane: BaseBackplane, publishers: int, events: int) -> list[Counter[int]]:
    """Who published how many in each turn of the loop: each of them that many events, as fast as it may."""
    turns, taken = Turns(), list[Counter[int]]()

    async def publish(publisher: int) -> None:
        for number in range(events):
            while len(taken) <= turns.count:
                taken.append(Counter())
            taken[turns.count][publisher] += 1
            await backplane.publish(USER, number)

    with turns.counting():
        async with asyncio.TaskGroup() as group:
            for publisher in range(publishers):
                group.create_task(publish(publisher))
    return [turn for turn in taken if turn]


async def test_one_publisher_takes_a_whole_budget_in_each_turn() -> None:
    async with InMemoryBackplane() as backplane:
        taken = await taken_per_turn(backplane, 1, 10 * UNITS)
        assert [turn[0] for turn in taken] == [UNITS] * 10


@pytest.mark.parametrize("publishers", [2, 8, 64])
async def test_publishers_get_equal_shares_of_each_turn(publishers: int) -> None:
    share = UNITS // publishers
    async with InMemoryBackplane() as backplane:
        first, second, *taken = await taken_per_turn(backplane, publishers, UNITS + 20 * share)
        # Nobody had waited yet: the first took all, and each of the others one event more.
        assert first.total() + second.total() < 3 * UNITS
        assert [turn for turn in taken[:10] if set(turn.values()) != {share} or len(turn) < publishers] == []


async def test_many_publishers_take_one_event_each() -> None:
    async with InMemoryBackplane() as backplane:
        taken = await taken_per_turn(backplane, 1_000, 5)
        assert max(turn.total() for turn in taken[1:]) <= 1_000
        assert max(max(turn.values()) for turn in taken[1:]) == 1


async def test_one_that_publishes_once_among_many_waits_two_turns_at_most() -> None:
    async with InMemoryBackplane() as backplane:
        going, turns = True, Turns()

        async def publish() -> None:
            while going:
                await backplane.publish(USER, "often")

        others = [asyncio.create_task(publish()) for _ in range(100)]
        with turns.counting():
            for _ in range(20):
                await asyncio.sleep(0)
                before = turns.count
                await backplane.publish(USER, "once")
                assert turns.count - before <= 2
        going = False
        await asyncio.wait(others)


async def suspensions(backplane: BaseBackplane, event: Any, events: int) -> int:
    """How often one publisher gives the loop a turn."""
    turns = Turns()
    with turns.counting():
        before = turns.count
        for _ in range(events):
            await backplane.publish(USER, event)
        return turns.count - before


async def test_a_large_event_uses_up_more() -> None:
    async with InMemoryBackplane() as backplane:
        assert await suspensions(backplane, "x" * (UNITS // 2 * BYTES_PER_UNIT), 10) == 5
        assert await suspensions(backplane, "x" * (UNITS * BYTES_PER_UNIT - 10), 10) == 10


async def test_an_event_that_many_sinks_take_uses_up_more() -> None:
    async with InMemoryBackplane() as backplane:
        for number in range(UNITS // 2 * SINKS_PER_UNIT):
            await backplane.attach(f"c{number}", len, raw=True)
            await backplane.associate(f"c{number}", USER)
        assert await suspensions(backplane, 1, 10) == 5


@pytest.mark.parametrize("way", ["sinks", "queues"])
async def test_an_event_for_thousands_of_this_pod_is_a_turn_of_its_own(way: str) -> None:
    """Ten of them in a row would hold the loop for tens of milliseconds."""
    connections, events = 5_000, 10
    assert connections // SINKS_PER_UNIT >= UNITS
    async with InMemoryBackplane() as backplane, AsyncExitStack() as stack:
        for number in range(connections):
            if way == "queues":
                await stack.enter_async_context(backplane.connection(f"c{number}", USER))
            else:
                await backplane.attach(f"c{number}", len, raw=True)
                await backplane.associate(f"c{number}", USER)
        assert await suspensions(backplane, 1, events) == events
        assert backplane.stats().delivered == events * connections


@pytest.mark.parametrize("bounds", [{"outbox_max_messages": 40}, {"outbox_max_bytes": 40 * BYTES_PER_UNIT}], ids=repr)
async def test_a_turn_takes_no_more_than_a_quarter_of_the_outbox(bounds: Any) -> None:
    async with DistributedBackplane(MemoryTransport(MemoryBroker()), **bounds) as backplane:
        assert await suspensions(backplane, 1, 100) >= 10
        await backplane.flush(timeout_s=5)
        assert not backplane.stats().dropped


async def test_it_is_renewed_once_the_loop_has_turned_and_not_before() -> None:
    budget = LoopBudget(10_000, 1 << 30)
    budget.used = budget.limit
    ending = asyncio.ensure_future(budget.renew())
    assert budget.used >= budget.limit
    await ending
    assert (budget.used, budget.limit) == (0, UNITS)


async def test_a_publisher_that_is_cancelled_while_it_waits_leaves_its_share_to_the_others() -> None:
    budget = LoopBudget(10_000, 1 << 30)
    waiting = [asyncio.ensure_future(budget.renew()) for _ in range(4)]
    await asyncio.sleep(0)
    for one in waiting[:3]:
        one.cancel()
    await asyncio.wait(waiting)
    budget.used = budget.limit
    await budget.renew()
    assert (budget.used, budget.limit) == (0, UNITS)
