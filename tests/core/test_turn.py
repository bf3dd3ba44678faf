"""A turn of the loop: shared by all publishers, begun anew only when the loop came round."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from itertools import groupby

import pytest
from backplane_core import InMemoryBackplane, Target
from backplane_core._turn import AT_ONCE, CREDIT, EVENT, SHARE, Turn

from tests.core.helpers import until

SIZE = 2
"""Bytes of an event's JSON."""
PER_TURN = -(-CREDIT // (EVENT + SIZE))
PER_SHARE = -(-SHARE // (EVENT + SIZE))
USER = Target.user("u1")

pytestmark = pytest.mark.every_loop


@asynccontextmanager
async def rounds_of_the_loop() -> AsyncGenerator[Callable[[], int]]:
    """Count the loop's rounds."""
    loop, rounds, handle = asyncio.get_running_loop(), 0, None

    def come_round() -> None:
        nonlocal rounds, handle
        rounds += 1
        handle = loop.call_soon(come_round)

    come_round()
    try:
        yield lambda: rounds
    finally:
        assert handle is not None
        handle.cancel()


async def takes(turn: Turn, count: int, taken: Callable[[], None]) -> None:
    for _ in range(count):
        turn.left -= EVENT + SIZE
        taken()
        if turn.left <= 0:
            await turn.end()


@pytest.mark.parametrize("publishers", [1, 2, 8, 200])
async def test_all_publishers_share_one_turn_and_none_takes_more_than_its_share_while_another_waits(
    publishers: int,
) -> None:
    turn, taken = Turn(), list[tuple[int, int]]()
    async with rounds_of_the_loop() as rounds, asyncio.TaskGroup() as group:
        for number in range(publishers):

            def note(number: int = number) -> None:
                taken.append((rounds(), number))

            group.create_task(takes(turn, 3 * PER_TURN, note))
    by_round: dict[int, list[int]] = {}
    for number, publisher in taken:
        by_round.setdefault(number, []).append(publisher)
    first = taken[0][0]
    for number, in_it in by_round.items():
        # The first one finds nobody waiting; every other comes when it is used up, and waits behind its first event.
        assert len(in_it) <= PER_TURN + (publishers if number <= first + 1 else 0)
    order = [number for _, number in taken[PER_TURN + publishers :]]
    at_once = [(number, len(list(run))) for number, run in groupby(order)]
    while at_once and at_once[-1][0] == order[-1]:  # the last one is alone at its end
        at_once.pop()
    assert all(count <= PER_SHARE for _, count in at_once)


async def test_who_waits_goes_on_in_the_order_of_coming_and_takes_several_at_a_time() -> None:
    turn, taken = Turn(), list[int]()
    turn.left = 0
    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(takes(turn, 1 + 2 * PER_SHARE, lambda number=number: taken.append(number)))  # type: ignore[misc]
    assert taken[:8] == list(range(8))
    once = [number for number in range(8) for _ in range(PER_SHARE)]
    assert taken[8:] == once * 2


async def test_a_large_event_takes_as_much_as_many_small_ones() -> None:
    turn = Turn()
    turn.left -= EVENT + CREDIT
    ending = asyncio.ensure_future(turn.end())
    assert turn.left < 0
    await ending
    assert turn.left == CREDIT


async def test_publishers_that_publish_nothing_more_do_not_hold_the_loop_either() -> None:
    turn, gone = Turn(), list[int]()
    turn.left = 0
    async with rounds_of_the_loop() as rounds:

        async def once() -> None:
            await turn.end()
            gone.append(rounds())

        async with asyncio.TaskGroup() as group:
            for _ in range(5 * AT_ONCE):
                group.create_task(once())
    assert max(gone.count(number) for number in gone) == AT_ONCE


async def test_a_publisher_that_is_cancelled_while_it_waits_raises_and_holds_nobody_up() -> None:
    async with InMemoryBackplane() as backplane:

        async def publisher() -> None:
            while True:
                await backplane.publish(USER, 1)

        tasks = [asyncio.create_task(publisher()) for _ in range(10)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        done, _ = await asyncio.wait(tasks[::2])
        assert all(task.cancelled() for task in done)
        before = backplane.stats().published
        await until(lambda: backplane.stats().published >= before + 10 * PER_TURN, "the others go on")
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def test_another_loop_begins_with_nobody_waiting() -> None:
    turn = Turn()

    async def leaves_one_waiting() -> None:
        turn.left = 0
        waiting = turn.end()
        waiting.send(None).add_done_callback(print, context=None)
        waiting.close()

    async def waits() -> int:
        turn.left = 0
        await asyncio.wait_for(turn.end(), 30)
        return turn.left

    loop = asyncio.new_event_loop()
    loop.run_until_complete(leaves_one_waiting())
    loop.close()
    assert asyncio.run(waits()) == CREDIT
