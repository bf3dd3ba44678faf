"""broadcaster: `Broadcast` over Redis pub/sub."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from bench.job import Job
from bench.libraries import library
from bench.publishing import Publish

__all__ = ["publisher", "receive"]


@asynccontextmanager
async def publisher(job: Job) -> AsyncGenerator[Publish]:
    """`await broadcast.publish(…)`."""
    async with library("broadcaster").Broadcast(job.url) as broadcast:

        async def publish(number: int) -> None:
            await broadcast.publish(job.channel, job.json(number))

        yield publish


async def receive(job: Job, take: Callable[[Any], None]) -> AsyncIterator[None]:
    """`async for event in subscriber`."""
    async with (
        library("broadcaster").Broadcast(job.url) as broadcast,
        broadcast.subscribe(job.channel) as subscriber,
        # With redis-py 8 nothing is delivered until a second channel is subscribed.
        broadcast.subscribe(f"{job.channel}:second"),
    ):
        yield
        async for event in subscriber:
            take(event.message)
