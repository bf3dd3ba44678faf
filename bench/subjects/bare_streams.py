"""Logs without Backplane: the fastest loop over a Redis stream, and JetStream as nats-py has it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import hiredis
from attrs import define

from bench.events import nested, user_id
from bench.libraries import library
from bench.subjects.bare_redis import LoopSender, connection
from bench.subjects.running import reading, topic
from bench.subjects.turn import Sockets, Turn

if TYPE_CHECKING:
    from nats.aio.msg import Msg

__all__ = ["JetStream", "StreamLoop"]

KEEP: Final = 100_000
"""Entries that a stream keeps: as ours does."""
PAGE: Final = 512
_READ_BYTES: Final = 1 << 20
_ROUND: Final = 256
_SETTLE_S: Final = 60


class StreamLoop:
    """XADD, 64 per write, and XREAD of one stream: bytes made by hand, nothing checked or recovered."""

    @asynccontextmanager
    async def sender(self, turn: Turn) -> AsyncGenerator[LoopSender]:
        """The client's connection, and hiredis to count the replies."""
        async with connection(turn.url) as (line, stream):
            sender = _StreamSender(line, turn)
            async with reading([sender.count_replies(stream)]):
                yield sender

    @asynccontextmanager
    async def receiver(self, turn: Turn, sockets: Sockets) -> AsyncGenerator[None]:
        """One connection that asks for the next page as soon as it has one; a field's name is the user's."""
        by_user = {user.encode(): sockets.of(user) for user in turn.users}
        async with connection(turn.url) as (line, stream):

            async def read() -> None:
                parser, last = hiredis.Reader(notEnoughData=None), b"0-0"
                while True:
                    await line.send_command("XREAD", "COUNT", PAGE, "BLOCK", 0, "STREAMS", turn.channel, last)
                    while (reply := parser.gets()) is None:
                        parser.feed(await stream.read(_READ_BYTES))
                    for last, (user, payload) in _entries(reply):  # noqa: B007 -- the last one is where it goes on
                        by_user[user].take(payload)

            async with reading([read()]):
                yield


class _StreamSender(LoopSender):
    def head(self, user: str) -> bytes:
        """Return `XADD channel MAXLEN ~ 100000 * user`, up to the payload's length."""
        channel, keep, name = self.turn.channel.encode(), str(KEEP).encode(), user.encode()
        return b"*8\r\n$4\r\nXADD\r\n$%d\r\n%b\r\n$6\r\nMAXLEN\r\n$1\r\n~\r\n$%d\r\n%b\r\n$1\r\n*\r\n$%d\r\n%b\r\n$" % (
            len(channel),
            channel,
            len(keep),
            keep,
            len(name),
            name,
        )


def _entries(reply: Any) -> Iterable[tuple[bytes, tuple[bytes, bytes]]]:  # noqa: ANN401 -- hiredis'
    """Return the entries of a reply to XREAD of one stream, in RESP3."""
    found: Iterable[Iterable[tuple[bytes, tuple[bytes, bytes]]]] = reply.values()
    return next(iter(found))


class JetStream:
    """`js.publish_async()`, 256 at a time, and an ordered consumer; a stream on disk with a subject per user."""

    @asynccontextmanager
    async def sender(self, turn: Turn) -> AsyncGenerator[_AsyncPublisher]:
        """One client."""
        client = await library("nats").connect(turn.url)
        try:
            yield _AsyncPublisher(client.jetstream(), turn)
        finally:
            await client.close()

    @asynccontextmanager
    async def receiver(self, turn: Turn, sockets: Sockets) -> AsyncGenerator[None]:
        """One callback, and a look at each subject."""
        by_subject = {topic(turn, user): sockets.of(user) for user in turn.users}

        async def take(message: Msg) -> None:
            by_subject[message.subject].take(message.data)

        client = await library("nats").connect(turn.url)
        try:
            log = client.jetstream()
            await log.add_stream(name=turn.channel, subjects=[topic(turn, "*")], max_msgs=KEEP)
            await log.subscribe(topic(turn, "*"), ordered_consumer=True, cb=take)
            yield
        finally:
            await client.close()


@define
class _AsyncPublisher:
    log: Any
    turn: Turn

    async def publish(self, numbers: Iterable[int]) -> None:
        """`await js.publish_async(…)`, with at most so many acknowledgements under way."""
        waiting: list[asyncio.Future[Any]] = []
        for number in numbers:
            user = user_id(number)
            event = json.dumps(nested(number, user)).encode()
            waiting.append(await self.log.publish_async(topic(self.turn, user), event))
            if len(waiting) >= _ROUND:
                await asyncio.gather(*waiting)
                waiting.clear()

    async def settle(self, _: int, /) -> None:
        """Return once all is acknowledged."""
        async with asyncio.timeout(_SETTLE_S):
            await self.log.publish_async_completed()
