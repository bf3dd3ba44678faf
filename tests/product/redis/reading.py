"""Links that are read while a test runs, as core reads them."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest
from backplane_core import Frame, Link, TransportError
from backplane_redis import ClusterTransport, RedisTransport
from backplane_redis._cluster.link import ClusterLink
from backplane_redis._link import RedisLink
from redis.asyncio import Redis

DEADLINE_S = 10


class Heard:
    """What a link yielded so far, and how it ended."""

    def __init__(self, link: Link) -> None:
        self.frames: list[Frame] = []
        self._more = asyncio.Event()
        self.task = asyncio.create_task(self._read(link))

    async def _read(self, link: Link) -> None:
        async for batch in link.receive():
            assert batch
            self.frames.extend(cast("list[Frame]", batch))
            self._more.set()

    async def until(self, count: int) -> list[Frame]:
        async with asyncio.timeout(DEADLINE_S):
            while len(self.frames) < count:
                self._more.clear()
                await self._more.wait()
        return self.frames

    async def death(self) -> TransportError:
        return await raised(self.task)


async def raised(waiting: asyncio.Task[Any] | Coroutine[Any, Any, Any]) -> TransportError:
    """Return the TransportError that this must raise, soon."""
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(TransportError) as caught:
            await waiting
    return caught.value


@asynccontextmanager
async def reading(url: str, **options: Any) -> AsyncGenerator[tuple[RedisLink, Heard]]:
    async with asyncio.timeout(DEADLINE_S):
        link = await RedisTransport(url, connection_kwargs=options).open()
        assert isinstance(link, RedisLink)
    async with read(link) as heard:
        yield link, heard


@asynccontextmanager
async def reading_cluster(url: str, **options: Any) -> AsyncGenerator[tuple[ClusterLink, Heard]]:
    async with asyncio.timeout(DEADLINE_S):
        link = await ClusterTransport(url, connection_kwargs=options).open()
        assert isinstance(link, ClusterLink)
    async with read(link) as heard:
        yield link, heard


@asynccontextmanager
async def read(link: Link) -> AsyncGenerator[Heard]:
    """Read a link while the block runs, and close it."""
    heard = Heard(link)
    try:
        yield heard
    finally:
        async with asyncio.timeout(DEADLINE_S):
            await link.aclose()
            with suppress(TransportError, asyncio.CancelledError):
                await heard.task


def admin_of(url: str) -> Any:
    """Return a plain client of this server, untyped as redis-py mostly is."""
    return Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]


async def turns(count: int = 20) -> None:
    """Let every task run that can."""
    for _ in range(count):
        await asyncio.sleep(0)


def all_that_is_said(error: BaseException) -> str:
    """Everything that a log or a debugger could show of an error and of those that hang on it."""
    said: list[str] = []
    pending: list[BaseException | None] = [error]
    while pending:
        if (link := pending.pop()) is not None:
            said += [str(link), repr(link), repr(link.args), *traceback.format_exception(link)]
            pending += [link.__cause__, link.__context__]
    return "\n".join(said)
