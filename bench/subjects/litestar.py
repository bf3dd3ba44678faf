"""litestar: its channels plugin over Redis pub/sub, over its streams, and over a backplane."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, Literal

from attrs import frozen

from bench.events import nested, user_id
from bench.libraries import library
from bench.subjects.running import reading
from bench.subjects.turn import Socket, Sockets, Turn

__all__ = ["Litestar"]

_YIELD_EVERY: Final = 64
_FLUSH_S: Final = 60
_HISTORY: Final = 1_000
"""Entries that its streams keep, one stream for each channel."""


@frozen(kw_only=True)
class Litestar:
    """A channel per user."""

    # Whether events are published by `publish()`, which queues; else by `await wait_published()`.
    queued: bool = False
    # Whose back-end carries them.
    backend: Literal["redis", "streams", "backplane"] = "redis"

    @asynccontextmanager
    async def sender(self, turn: Turn) -> AsyncGenerator[_Sender]:
        """The plugin, without an app around it."""
        async with self._plugin(turn) as plugin:
            yield (_QueueingSender if self.queued else _Sender)(plugin, self.backend == "backplane")

    @asynccontextmanager
    async def receiver(self, turn: Turn, sockets: Sockets) -> AsyncGenerator[None]:
        """A task per socket, which reads `async for event in subscriber.iter_events()`."""
        async with self._plugin(turn) as plugin, AsyncExitStack() as stack:
            subscribers = {
                user: await stack.enter_async_context(plugin.start_subscription([f"user_{user}"]))
                for user in turn.users
            }

            async def read(subscriber: Any, socket: Socket) -> None:  # noqa: ANN401 -- litestar's
                async for event in subscriber.iter_events():
                    socket.take(event)

            async with reading([read(subscriber, sockets.of(user)) for user, subscriber in subscribers.items()]):
                yield

    @asynccontextmanager
    async def _plugin(self, turn: Turn) -> AsyncGenerator[Any]:
        async with AsyncExitStack() as stack:
            if self.backend == "backplane":
                make = library("backplane_litestar").BackplaneChannelsBackend
                backend = make(turn.url, channel=turn.channel, routing="interest")
            else:
                client = await stack.enter_async_context(library("redis.asyncio").Redis.from_url(turn.url))
                redis = library("litestar.channels.backends.redis")
                if self.backend == "streams":
                    backend = redis.RedisChannelsStreamBackend(history=_HISTORY, redis=client)
                else:
                    backend = redis.RedisChannelsPubSubBackend(redis=client)
            plugin = library("litestar.channels").ChannelsPlugin(backend, arbitrary_channels_allowed=True)
            yield await stack.enter_async_context(plugin)


@frozen
class _Sender:
    plugin: Any
    flushes: bool  # whether its back-end publishes without waiting for the broker

    async def publish(self, numbers: Iterable[int]) -> None:
        """`await channels.wait_published({…}, channels=[…])`, which encodes the event and waits for Redis."""
        for number in numbers:
            user = user_id(number)
            await self.plugin.wait_published(nested(number, user), channels=[f"user_{user}"])

    async def settle(self, _: int, /) -> None:
        """Return once the broker has all."""
        if self.flushes:
            await self.plugin._backend.backplane.flush(timeout_s=_FLUSH_S)  # noqa: SLF001 -- the app itself holds it


class _QueueingSender(_Sender):
    async def publish(self, numbers: Iterable[int]) -> None:
        """`channels.publish({…}, channels=[…])`; its own task sends one after the other."""
        for number in numbers:
            user = user_id(number)
            self.plugin.publish(nested(number, user), channels=[f"user_{user}"])
            if not number % _YIELD_EVERY:
                await asyncio.sleep(0)

    async def settle(self, published: int, /) -> None:
        """Return once its queue is empty, and the broker has all."""
        await self.plugin._pub_queue.join()  # noqa: SLF001 -- nothing public says when all is out
        await super().settle(published)
