"""Redis without Backplane: the client as people write it, and the fastest loop that its connection allows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import hiredis
import redis.asyncio

from bench.job import Job
from bench.publishing import Publish, Send

__all__ = ["BATCH", "listen", "publisher", "read_joined", "send_joined", "send_pipelined"]

BATCH: Final = 64
"""Events per write and turn of the loop: as many as Backplane accepts between two turns."""

_READ_BYTES: Final = 1 << 20
# Its own types are partly unknown to a strict checker.
_redis: Final[Any] = redis.asyncio


@asynccontextmanager
async def publisher(job: Job) -> AsyncGenerator[Publish]:
    """`await client.publish()`; each of several at once has a connection of the client's pool."""
    async with _redis.Redis.from_url(job.url) as client:

        async def publish(number: int) -> None:
            await client.publish(job.channel, job.json(number))

        yield publish


@asynccontextmanager
async def send_pipelined(job: Job) -> AsyncGenerator[Send]:
    """Pipelines of 64, without MULTI: its fastest way to publish many, if they may wait for each other."""
    async with _redis.Redis.from_url(job.url) as client:

        async def run(numbers: range) -> None:
            for start in range(0, len(numbers), BATCH):
                async with client.pipeline(transaction=False) as pipeline:
                    for number in numbers[start : start + BATCH]:
                        pipeline.publish(job.channel, job.json(number))
                    await pipeline.execute()

        yield run


async def listen(job: Job, take: Callable[[bytes], None]) -> AsyncIterator[None]:
    """`async for message in pubsub.listen()`."""
    async with _redis.Redis.from_url(job.url) as client, client.pubsub() as pubsub:
        await pubsub.subscribe(job.channel)
        async for message in pubsub.listen():
            if message["type"] == "message":
                take(message["data"])
            else:
                yield


@asynccontextmanager
async def _connection(url: str) -> AsyncGenerator[tuple[Any, asyncio.StreamReader]]:
    # A timeout would wrap each write in a task.
    connection: Any = _redis.ConnectionPool.from_url(url, protocol=3, socket_timeout=None).make_connection()
    await connection.connect()
    try:
        yield connection, connection._reader  # noqa: SLF001 -- redis-py has no public way to its stream
    finally:
        await connection.disconnect(nowait=True)


@asynccontextmanager
async def send_joined(job: Job) -> AsyncGenerator[Send]:
    """`await publish()` for each event, as everyone's: bytes by hand, 64 in one write; the replies are counted."""
    channel = job.channel.encode()
    head = b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$" % (len(channel), channel)
    async with _connection(job.url) as (connection, stream):
        sent = confirmed = 0
        all_confirmed = asyncio.Event()

        async def count_replies() -> None:
            nonlocal confirmed
            parser = hiredis.Reader(notEnoughData=None)
            while data := await stream.read(_READ_BYTES):
                parser.feed(data)
                confirmed += len(list(iter(parser.gets, None)))
                if confirmed == sent:
                    all_confirmed.set()

        parts: list[bytes] = []

        async def publish(payload: bytes) -> None:
            nonlocal sent
            parts.append(b"%b%d\r\n%b\r\n" % (head, len(payload), payload))
            sent += 1
            if len(parts) == BATCH:
                await connection.send_packed_command(b"".join(parts), check_health=False)
                parts.clear()
                await asyncio.sleep(0)

        async def run(numbers: range) -> None:
            all_confirmed.clear()
            for number in numbers:
                await publish(job.json(number))
            if parts:
                await connection.send_packed_command(b"".join(parts), check_health=False)
                parts.clear()
            if confirmed < sent:
                await all_confirmed.wait()

        counting = asyncio.create_task(count_replies())
        try:
            yield run
        finally:
            counting.cancel()


async def read_joined(job: Job, take: Callable[[bytes], None]) -> AsyncIterator[None]:
    """Hiredis over the connection's own stream."""
    async with _connection(job.url) as (connection, stream):
        await connection.send_command("SUBSCRIBE", job.channel)
        parser = hiredis.Reader()
        while data := await stream.read(_READ_BYTES):
            parser.feed(data)
            while (reply := parser.gets()) is not False:
                if reply[0] == b"message":
                    take(reply[2])
                else:
                    yield
