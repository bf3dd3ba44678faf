"""A turn of the loop: shared by all publishers, begun anew only when the loop came round."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from itertools import groupby

import pytest
from backplane_core import InMemoryBackplane, Target
from backplane_core._turn import BYTES, MESSAGES, SHARE, Turn

from tests.core.helpers import until

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
        turn.messages += 1
        turn.bytes += 2
        taken()
        if turn.messages >= turn.most:
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

            group.create_task(takes(turn, 3 * MESSAGES, note))
    by_round: dict[int, list[int]] = {}
    for number, publisher in taken:
        by_round.setdefault(number, []).append(publisher)
    first = taken[0][0]
    for number, in_it in by_round.items():
        # The first one finds nobody waiting; every other comes when it is used up, and waits behind its first event.
        assert len(in_it) <= MESSAGES + (publishers if number <= first + 1 else 0)
    order = [number for _, number in taken[MESSAGES + publishers :]]
    at_once = [(number, len(list(run))) for number, run in groupby(order)]
    while at_once and at_once[-1][0] == order[-1]:  # the last one is alone at its end
        at_once.pop()
    assert all(count <= SHARE for _, count in at_once)


async def test_who_waits_goes_on_in_the_order_of_coming_and_takes_several_at_a_time() -> None:
    turn, taken = Turn(), list[int]()
    turn.messages = MESSAGES
    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(takes(turn, 1 + 2 * SHARE, lambda number=number: taken.append(number)))  # type: ignore[misc]
    assert taken[:8] == list(range(8))
    once = [number for number in range(8) for _ in range(SHARE)]
    assert taken[8:] == once * 2


@pytest.mark.parametrize(("event", "count"), [("", 64), ("x" * (BYTES // 4), 4)])
async def test_a_publisher_gives_the_loop_a_turn_at_either_bound_and_not_before(event: str, count: int) -> None:
    async with InMemoryBackplane() as backplane, rounds_of_the_loop() as rounds:
        await asyncio.sleep(0)
        before, at = rounds(), list[int]()
        for _ in range(4 * count):
            await backplane.publish(USER, event)
            at.append(rounds() - before)
        # The loop comes round once behind each so many events.
        assert at == [(number + 1) // count for number in range(4 * count)]


async def test_it_is_counted_anew_once_the_loop_came_round_and_not_before() -> None:
    turn = Turn()
    turn.messages, turn.bytes = MESSAGES, BYTES
    ending = asyncio.ensure_future(turn.end())
    assert (turn.messages, turn.bytes) == (MESSAGES, BYTES)
    await ending
    assert (turn.messages, turn.bytes) == (0, 0)


async def test_publishers_that_publish_nothing_more_do_not_hold_the_loop_either() -> None:
    turn, gone = Turn(), list[int]()
    turn.messages = MESSAGES
    async with rounds_of_the_loop() as rounds:

        async def once() -> None:
            await turn.end()
            gone.append(rounds())

        async with asyncio.TaskGroup() as group:
            for _ in range(5 * MESSAGES):
                group.create_task(once())
    assert max(gone.count(number) for number in gone) == MESSAGES


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
        await until(lambda: backplane.stats().published >= before + 10 * MESSAGES, "the others go on")
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def test_another_loop_begins_with_nobody_waiting() -> None:
    turn = Turn()

    async def leaves_one_waiting() -> None:
        turn.messages = MESSAGES
        waiting = turn.end()
        waiting.send(None).add_done_callback(print, context=None)
        waiting.close()

    async def waits() -> int:
        await asyncio.wait_for(turn.end(), 30)
        return turn.messages

    loop = asyncio.new_event_loop()
    loop.run_until_complete(leaves_one_waiting())
    loop.close()
    assert asyncio.run(waits()) == 0
