"""litestar: its channels plugin over Redis pub/sub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import redis.asyncio

from bench.job import Job
from bench.libraries import library
from bench.publishing import Publish, Send

__all__ = ["publisher", "receive", "send_queued"]

_YIELD_EVERY: Final = 64
# Its own types are partly unknown to a strict checker.
_redis: Final[Any] = redis.asyncio


@asynccontextmanager
async def _plugin(job: Job) -> AsyncGenerator[Any]:
    async with _redis.Redis.from_url(job.url) as client:
        backend = library("litestar.channels.backends.redis").RedisChannelsPubSubBackend(redis=client)
        async with library("litestar.channels").ChannelsPlugin(backend, arbitrary_channels_allowed=True) as plugin:
            yield plugin


@asynccontextmanager
async def publisher(job: Job) -> AsyncGenerator[Publish]:
    """`await channels.wait_published(…)`, which waits for the broker."""
    async with _plugin(job) as plugin:

        async def publish(number: int) -> None:
            await plugin.wait_published(job.event(number), job.channel)

        yield publish


@asynccontextmanager
async def send_queued(job: Job) -> AsyncGenerator[Send]:
    """`channels.publish(…)`, which queues; its own task sends one after the other."""
    async with _plugin(job) as plugin:

        async def run(numbers: range) -> None:
            for number in numbers:
                plugin.publish(job.event(number), job.channel)
                if not number % _YIELD_EVERY:
                    await asyncio.sleep(0)
            await plugin._pub_queue.join()  # noqa: SLF001 -- nothing public tells when all is out

        yield run


async def receive(job: Job, take: Callable[[Any], None]) -> AsyncIterator[None]:
    """`async for event in subscriber.iter_events()`."""
    async with _plugin(job) as plugin, plugin.start_subscription([job.channel]) as subscriber:
        yield
        async for event in subscriber.iter_events():
            take(event)
