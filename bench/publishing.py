"""How events are published: `one_by_one`, or `concurrently` from 64 tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final, TypeAlias

from bench.job import Job

__all__ = ["PUBLISHERS", "Publish", "Publisher", "Send", "Sending", "concurrently", "one_by_one"]

PUBLISHERS: Final = 64

Publish: TypeAlias = Callable[[int], Awaitable[None]]
"""Publishes the event of this number; returns when the library says that it is published."""
Publisher: TypeAlias = Callable[[Job], AbstractAsyncContextManager[Publish]]
Send: TypeAlias = Callable[[range], Awaitable[None]]
"""Publishes all of these; returns when the broker has them."""
Sending: TypeAlias = Callable[[Job], AbstractAsyncContextManager[Send]]


def one_by_one(publisher: Publisher) -> Sending:
    """Return how to publish one after the other."""
    return partial(_sending, publisher=publisher, tasks=1)


def concurrently(publisher: Publisher) -> Sending:
    """Return how to publish from 64 tasks, which take their numbers from one iterator."""
    return partial(_sending, publisher=publisher, tasks=PUBLISHERS)


@asynccontextmanager
async def _sending(job: Job, publisher: Publisher, tasks: int) -> AsyncGenerator[Send]:
    async with publisher(job) as publish:

        async def run(numbers: range) -> None:
            rest = iter(numbers)

            async def work() -> None:
                for number in rest:
                    await publish(number)

            if tasks == 1:
                await work()
            else:
                async with asyncio.TaskGroup() as group:
                    for _ in range(tasks):
                        group.create_task(work())

        yield run
