"""What publishers may take of one turn of the loop: shared by all, renewed only once the loop has turned."""

from __future__ import annotations

import asyncio

from backplane_core._local.loop_budget import BYTES, MESSAGES, LoopBudget
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(0, 2 * MESSAGES), st.integers(0, 2 * BYTES))
def test_a_budget_is_spent_at_either_bound(messages: int, size: int) -> None:
    budget = LoopBudget()
    budget.messages, budget.bytes = messages, size
    assert budget.is_spent is (messages >= MESSAGES or size >= BYTES)


async def test_publishers_in_many_tasks_share_one_budget() -> None:
    budget = LoopBudget()
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
            budget.messages += 1
            taken.append(rounds)
            if budget.is_spent:
                await budget.end()

    asyncio.get_running_loop().call_soon(come_round)
    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(publisher())
    going = False
    # One share per round, and at most one event of each publisher that came when it was used up.
    assert max(taken.count(number) for number in set(taken)) <= MESSAGES + 8
    assert len(set(taken)) >= 8


async def test_it_is_renewed_once_the_loop_has_turned_and_not_before() -> None:
    budget = LoopBudget()
    budget.messages = MESSAGES
    ending = asyncio.ensure_future(budget.end())
    assert budget.is_spent
    await ending
    assert (budget.messages, budget.bytes, budget.is_spent) == (0, 0, False)
