"""A history over servers that keep a log."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from backplane_core import BaseBackplane, Event, Target, connect

from tests.product.logs.servers import LogServer

ROOM = Target("room", "r1")
MEMBER = Target.user("u1")
MUTED = Target("room", "muted")
COUNT = 300


async def has_read_all(pod: BaseBackplane) -> None:
    """Return once a pod has read all of it."""
    for _ in range(3_000):
        if len((await pod.history(ROOM, 1_000)).events) == COUNT:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never did")


async def test_a_history_has_each_event_once_and_in_order(log_server: LogServer, channel: str) -> None:
    async with AsyncExitStack() as stack, asyncio.timeout(60):
        pods = [
            await stack.enter_async_context(connect(log_server.url, channel=channel, resume_max_bytes=size))
            for size in (0, 20_000)
        ]
        for number in range(COUNT):
            await pods[number % 2].publish(ROOM if number % 3 else [ROOM, MEMBER], number)
            await pods[0].publish(MEMBER, "of somebody else")
            if not number % 10:
                await pods[1].publish(ROOM & MEMBER, "both", exclude=[MUTED])
        for pod in pods:
            await pod.flush()
        pods.append(await stack.enter_async_context(connect(log_server.url, channel=channel)))
        for pod in pods:
            await has_read_all(pod)
            events: list[Event] = []
            page = await pod.history(ROOM, 70)
            events[:0] = page.events
            while not page.complete:
                page = await pod.history(ROOM, 70, page.events[0].id if page.events else page.older)
                events[:0] = page.events
            found = [event.value for event in events]
            assert sorted(found) == [*range(COUNT)]
            for sender in range(2):
                for is_union in (True, False):
                    own = [number for number in found if number % 2 == sender and (number % 3 == 0) is is_union]
                    assert own == sorted(own)
            member = await pod.history(ROOM, 1_000, having=[MEMBER])
            assert [event.value for event in member.events].count("both") == COUNT // 10
            muted = await pod.history(ROOM, 1_000, having=[MEMBER, MUTED])
            assert sorted([event.value for event in muted.events]) == [*range(COUNT)]
