"""Redis without Backplane: the client as people write it, and the fastest loop that its connection allows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any, Final

import hiredis
from attrs import define, field

from bench.events import nested, user_id
from bench.libraries import library
from bench.subjects.running import ClientSender, WaitingSender, reading, topic
from bench.subjects.turn import Sockets, Turn

__all__ = ["BATCH", "LoopSender", "RedisLoop", "RedisPipeline", "RedisPy", "connection"]

BATCH: Final = 64
"""Events per write and turn of the loop."""

_READ_BYTES: Final = 1 << 20


class RedisPy:
    """`await client.publish()`, and a channel per user; each of several publishers has a connection of the pool."""

    @asynccontextmanager
    async def sender(self, turn: Turn) -> AsyncGenerator[_Publisher]:
        """One client."""
        async with library("redis.asyncio").Redis.from_url(turn.url) as client:
            yield _Publisher(client, turn)

    @asynccontextmanager
    async def receiver(self, turn: Turn, sockets: Sockets) -> AsyncGenerator[None]:
        """`async for message in pubsub.listen()`: one subscription for all channels, and a look at each one's name."""
        by_channel = {topic(turn, user).encode(): sockets.of(user) for user in turn.users}
        async with library("redis.asyncio").Redis.from_url(turn.url) as client, client.pubsub() as pubsub:
            await pubsub.subscribe(*by_channel)
            messages = pubsub.listen()
            for _ in by_channel:
                assert (await anext(messages))["type"] == "subscribe"

            async def read() -> None:
                async for message in messages:
                    if message["type"] == "message":
                        by_channel[message["channel"]].take(message["data"])

            async with reading([read()]):
                yield


class _Publisher(ClientSender, WaitingSender):
    """Its publish waits for Redis."""


class RedisPipeline(RedisPy):
    """Pipelines of 64, without MULTI: the client's fastest way to publish many, if they may wait for each other."""

    @asynccontextmanager
    async def sender(self, turn: Turn) -> AsyncGenerator[_Publisher]:
        """One client."""
        async with library("redis.asyncio").Redis.from_url(turn.url) as client:
            yield _PipelinePublisher(client, turn)


class _PipelinePublisher(_Publisher):
    async def publish(self, numbers: Iterable[int]) -> None:
        """`pipeline.publish(…)` 64 times, then `await pipeline.execute()`."""
        rest = iter(numbers)
        while batch := list(islice(rest, BATCH)):
            async with self.client.pipeline(transaction=False) as pipeline:
                for number in batch:
                    user = user_id(number)
                    pipeline.publish(topic(self.turn, user), json.dumps(nested(number, user)).encode())
                await pipeline.execute()


class RedisLoop:
    """What the same connection can carry: bytes made by hand, 64 events per write, nothing checked or recovered."""

    @asynccontextmanager
    async def sender(self, turn: Turn) -> AsyncGenerator[LoopSender]:
        """The client's connection, and hiredis to count the replies."""
        async with connection(turn.url) as (line, stream):
            sender = LoopSender(line, turn)
            async with reading([sender.count_replies(stream)]):
                yield sender

    @asynccontextmanager
    async def receiver(self, turn: Turn, sockets: Sockets) -> AsyncGenerator[None]:
        """Hiredis over the connection's own stream."""
        by_channel = {topic(turn, user).encode(): sockets.of(user) for user in turn.users}
        subscribed = asyncio.Event()
        async with connection(turn.url) as (line, stream):
            await line.send_command("SUBSCRIBE", *by_channel)

            async def read() -> None:
                parser = hiredis.Reader()
                while data := await stream.read(_READ_BYTES):
                    parser.feed(data)
                    while (reply := parser.gets()) is not False:
                        if reply[0] == b"message":
                            by_channel[reply[1]].take(reply[2])
                        elif reply[2] == len(by_channel):
                            subscribed.set()

            async with reading([read()]):
                await subscribed.wait()
                yield


@asynccontextmanager
async def connection(url: str) -> AsyncGenerator[tuple[Any, asyncio.StreamReader]]:
    # A timeout would wrap each write in a task.
    """Connect, and return the connection with its stream."""
    line: Any = library("redis.asyncio").ConnectionPool.from_url(url, protocol=3, socket_timeout=None).make_connection()
    await line.connect()
    try:
        yield line, line._reader  # noqa: SLF001 -- redis-py has no public way to its stream
    finally:
        await line.disconnect(nowait=True)


@define
class LoopSender:
    """Writes commands that are made by hand, many at once.

    Args:
        connection: The client's.
        turn: See `Turn`.
    """

    _connection: Any
    turn: Turn
    _sent: int = 0
    _confirmed: int = 0
    _parts: list[bytes] = field(factory=list[bytes])
    _all_confirmed: asyncio.Event = field(factory=asyncio.Event)

    async def publish(self, numbers: Iterable[int]) -> None:
        """`await` for each event, as everyone's; the command by hand."""
        turn = self.turn
        if turn.flat:
            head = self.head(turn.users[0])
            for number in numbers:
                await self._put(head, turn.json(number))
        else:
            for number in numbers:
                await self._put(self.head(user_id(number)), turn.json(number))

    async def settle(self, published: int, /) -> None:
        """Return once Redis has replied to all."""
        await self._write()
        self._all_confirmed.clear()
        if self._confirmed < published:
            await self._all_confirmed.wait()

    async def count_replies(self, stream: asyncio.StreamReader) -> None:
        """Count confirmations, until cancelled."""
        parser = hiredis.Reader(notEnoughData=None)
        while data := await stream.read(_READ_BYTES):
            parser.feed(data)
            self._confirmed += len(list(iter(parser.gets, None)))
            if self._confirmed == self._sent:
                self._all_confirmed.set()

    def head(self, user: str) -> bytes:
        """Return the command for a user's event, up to the payload's length."""
        channel = topic(self.turn, user).encode()
        return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$" % (len(channel), channel)

    async def _put(self, head: bytes, payload: bytes) -> None:
        self._parts.append(b"%b%d\r\n%b\r\n" % (head, len(payload), payload))
        self._sent += 1
        if len(self._parts) == BATCH:
            await self._write()
            await asyncio.sleep(0)

    async def _write(self) -> None:
        if self._parts:
            await self._connection.send_packed_command(b"".join(self._parts), check_health=False)
            self._parts.clear()
