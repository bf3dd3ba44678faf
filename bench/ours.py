"""Backplane, by its public API alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from backplane_core import DistributedBackplane, Target, connect

from bench.job import Job, Routing
from bench.publishing import Publish, Send

__all__ = ["connection", "flushed", "send", "sink"]

_TARGET: Final = Target.user("u1")
_FLUSH_S: Final = 60


@asynccontextmanager
async def _pod(job: Job, routing: Routing | None) -> AsyncGenerator[DistributedBackplane]:
    async with connect(job.url, channel=job.channel, routing=routing or job.routing) as backplane:
        assert isinstance(backplane, DistributedBackplane)
        yield backplane


async def _settle(backplane: DistributedBackplane, echoes: int) -> None:
    """Return once the broker has all, and this pod has read what came back: its own echo is part of its cost."""
    await backplane.flush(_FLUSH_S)
    while backplane.stats().echoed < echoes:  # noqa: ASYNC110 -- a counter is all that tells of echoes
        await asyncio.sleep(0.002)


@asynccontextmanager
async def send(job: Job, routing: Routing | None = None, publishers: int = 1) -> AsyncGenerator[Send]:
    """`await backplane.publish()`, one after the other, or from tasks which take their numbers from one iterator."""
    async with _pod(job, routing) as backplane:
        echoes = 0

        async def run(numbers: range) -> None:
            nonlocal echoes
            rest = iter(numbers)

            async def work() -> None:
                for number in rest:
                    await backplane.publish(_TARGET, job.event(number))

            if publishers == 1:
                await work()
            else:
                await asyncio.gather(*[work() for _ in range(publishers)])
            echoes += len(numbers)
            await _settle(backplane, echoes if (routing or job.routing) == "broadcast" else 0)

        yield run


@asynccontextmanager
async def flushed(job: Job) -> AsyncGenerator[Publish]:
    """`await backplane.publish()` and `await backplane.flush()`: each event is with the broker before the next."""
    async with _pod(job, None) as backplane:

        async def publish(number: int) -> None:
            await backplane.publish(_TARGET, job.event(number))
            await backplane.flush(_FLUSH_S)

        yield publish


async def sink(job: Job, take: Callable[[bytes], None], routing: Routing | None = None) -> AsyncIterator[None]:
    """One raw sink."""
    async with _pod(job, routing) as backplane:
        await backplane.attach("c1", take, raw=True)
        assert await backplane.associate("c1", _TARGET), "the broker did not confirm the association"
        yield
        await asyncio.Future()


async def connection(job: Job, take: Callable[[bytes], None]) -> AsyncIterator[None]:
    """`async for event in connection`."""
    # Room for all: a burst as fast as this one is cut off otherwise, which is right for a socket and no measurement.
    room = job.events + job.warmup
    async with (
        _pod(job, None) as backplane,
        backplane.connection("c1", _TARGET, max_pending=room, max_pending_bytes=room * (job.size + 64)) as events,
    ):
        yield
        async for event in events:
            take(event.json)
