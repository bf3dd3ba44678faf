"""broadcaster: `Broadcast` over Redis pub/sub, and over streams."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from attrs import frozen

from bench.events import nested, user_id
from bench.libraries import library
from bench.subjects.running import WaitingSender, reading
from bench.subjects.turn import Socket, Sockets, Turn

__all__ = ["Broadcaster"]


@frozen(kw_only=True)
class Broadcaster:
    """A channel per user, as its README has one per chat room; it carries text, so an event is dumped first."""

    streams: bool = False  # whether a channel is a stream

    @asynccontextmanager
    async def sender(self, turn: Turn) -> AsyncGenerator[_Sender]:
        """`async with Broadcast(url) as broadcast`."""
        async with self._broadcast(turn) as broadcast:
            yield _Sender(broadcast)

    @asynccontextmanager
    async def receiver(self, turn: Turn, sockets: Sockets) -> AsyncGenerator[None]:
        """A task per socket, which reads `async for event in subscriber`."""
        async with self._broadcast(turn) as broadcast, AsyncExitStack() as stack:
            # One after the other, as clients come: with redis-py 8 it hears nothing until a subscription is confirmed
            # and another one follows.
            subscribers = {
                user: await stack.enter_async_context(broadcast.subscribe(channel=f"user_{user}"))
                for user in turn.users
            }

            async def read(subscriber: Any, socket: Socket) -> None:  # noqa: ANN401 -- broadcaster's
                async for event in subscriber:
                    socket.take(event.message)

            async with reading([read(subscriber, sockets.of(user)) for user, subscriber in subscribers.items()]):
                yield

    def _broadcast(self, turn: Turn) -> Any:  # noqa: ANN401 -- broadcaster's
        url = turn.url.replace("redis://", "redis-stream://", 1) if self.streams else turn.url
        return library("broadcaster").Broadcast(url)


@frozen
class _Sender(WaitingSender):
    broadcast: Any

    async def publish(self, numbers: Iterable[int]) -> None:
        """`await broadcast.publish(channel=…, message=…)`, which waits for Redis."""
        for number in numbers:
            user = user_id(number)
            await self.broadcast.publish(channel=f"user_{user}", message=json.dumps(nested(number, user)))
