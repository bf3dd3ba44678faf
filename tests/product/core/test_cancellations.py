"""What a task group leaves behind: a link that dies takes nothing from the life of those that come after it."""

from __future__ import annotations

import asyncio

from tests.support.fleets import MemoryFleet
from tests.support.waiting import until


async def test_links_that_died_leave_no_cancellation_with_what_opens_the_next_ones(fleet: MemoryFleet) -> None:
    pod = await fleet.pod()
    for _ in range(3):
        links = pod.stats().links
        fleet.broker.drop_links()
        await until(lambda: pod.stats().links > links and pod.state == "live", "the next link is live")  # noqa: B023 -- awaited here
    [life] = [task for task in asyncio.all_tasks() if task.get_name() == "backplane"]
    assert life.cancelling() == 0
