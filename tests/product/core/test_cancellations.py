"""What task groups leave behind: a link that dies takes nothing from the life of those that come after it."""

from __future__ import annotations

import asyncio

import pytest
from backplane_core._runtime.tasks import settled_cancellations

from tests.support.fleets import MemoryFleet
from tests.support.waiting import until


async def fails_soon() -> None:
    await asyncio.sleep(0)
    raise LookupError


def requests() -> int:
    """Return how many cancellations of this task nobody has taken back."""
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def test_a_group_whose_task_fails_leaves_no_cancellation_with_its_own_task() -> None:
    with pytest.raises(ExceptionGroup), settled_cancellations():
        async with asyncio.TaskGroup() as group:
            group.create_task(fails_soon())
    assert requests() == 0


async def test_what_was_asked_before_stays() -> None:
    asked: list[int] = []

    async def cleans_up() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            with pytest.raises(ExceptionGroup), settled_cancellations():
                async with asyncio.TaskGroup() as group:
                    group.create_task(fails_soon())
            asked.append(requests())

    task = asyncio.ensure_future(cleans_up())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asked == [1]


async def test_a_cancellation_that_reaches_the_body_stays() -> None:
    async def waits() -> None:
        with settled_cancellations():
            await asyncio.Event().wait()

    task = asyncio.ensure_future(waits())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_links_that_died_leave_no_cancellation_with_what_opens_the_next_ones(fleet: MemoryFleet) -> None:
    pod = await fleet.pod()
    for _ in range(3):
        links = pod.stats().links
        fleet.broker.drop_links()
        await until(lambda: pod.stats().links > links and pod.state == "live", "the next link is live")  # noqa: B023 -- awaited here
    [life] = [task for task in asyncio.all_tasks() if task.get_name() == "backplane"]
    assert life.cancelling() == 0
