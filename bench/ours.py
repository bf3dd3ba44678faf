"""Backplane, by its public API alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final

from backplane_core import DistributedBackplane, Target, connect

from bench.job import Job, Routing

__all__ = ["PUBLISHERS", "connection", "send", "send_concurrently", "sink"]

PUBLISHERS: Final = 64
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
async def send(job: Job, routing: Routing | None = None) -> AsyncGenerator[Callable[[Iterable[int]], Awaitable[None]]]:
    """`await backplane.publish()`, one after the other."""
    async with _pod(job, routing) as backplane:
        echoes = 0

        async def run(numbers: Iterable[int]) -> None:
            nonlocal echoes
            for number in numbers:
                await backplane.publish(_TARGET, job.event(number))
                echoes += 1
            await _settle(backplane, echoes if (routing or job.routing) == "broadcast" else 0)

        yield run


@asynccontextmanager
async def send_concurrently(job: Job) -> AsyncGenerator[Callable[[Iterable[int]], Awaitable[None]]]:
    """The same from 64 tasks, which take their numbers from one iterator."""
    async with _pod(job, None) as backplane:
        echoes = 0

        async def run(numbers: Iterable[int]) -> None:
            nonlocal echoes
            rest = iter(numbers)

            async def publisher() -> None:
                nonlocal echoes
                for number in rest:
                    await backplane.publish(_TARGET, job.event(number))
                    echoes += 1

            await asyncio.gather(*[publisher() for _ in range(PUBLISHERS)])
            await _settle(backplane, echoes if job.routing == "broadcast" else 0)

        yield run


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
