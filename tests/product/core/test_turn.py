"""A turn of the loop: shared by all publishers, counted anew only when the loop came round."""

from __future__ import annotations

import asyncio

from backplane_core._local.loop_budget import BYTES, MESSAGES, LoopBudget
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(0, 2 * MESSAGES), st.integers(0, 2 * BYTES))
def test_a_turn_is_over_at_either_bound(messages: int, size: int) -> None:
    turn = LoopBudget()
    turn.messages, turn.bytes = messages, size
    assert turn.is_spent is (messages >= MESSAGES or size >= BYTES)


async def test_publishers_in_many_tasks_share_one_turn() -> None:
    turn = LoopBudget()
    taken: list[int] = []
    rounds = 0
    going = True

    def come_round() -> None:
        nonlocal rounds
        rounds += 1
        if going:
            asyncio.get_running_loop().call_soon(come_round)

    async def publisher() -> None:
        for _ in range(MESSAGES):
            turn.messages += 1
            taken.append(rounds)
            if turn.is_spent:
                await turn.end()

    asyncio.get_running_loop().call_soon(come_round)
    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(publisher())
    going = False
    # One share per round, and at most one event of each publisher that came when it was used up.
    assert max(taken.count(number) for number in set(taken)) <= MESSAGES + 8
    assert len(set(taken)) >= 8


async def test_it_is_counted_anew_once_the_loop_came_round_and_not_before() -> None:
    turn = LoopBudget()
    turn.messages = MESSAGES
    ending = asyncio.ensure_future(turn.end())
    assert turn.is_spent
    await ending
    assert (turn.messages, turn.bytes, turn.is_spent) == (0, 0, False)
