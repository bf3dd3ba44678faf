"""channels_redis: its layer over pub/sub, and the older one that keeps messages in Redis."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from attrs import frozen

from bench.events import nested, user_id
from bench.libraries import library
from bench.subjects.running import WaitingSender, reading
from bench.subjects.turn import Socket, Sockets, Turn

__all__ = ["ChannelsLayer", "ChannelsPubSub"]


class ChannelsPubSub:
    """A group per user, as the tutorial of Channels has one per chat room; without Channels' consumers around it."""

    @asynccontextmanager
    async def sender(self, turn: Turn) -> AsyncGenerator[_Sender]:
        """The layer itself."""
        layer = self._layer(turn)
        try:
            yield _Sender(layer)
        finally:
            await layer.flush()

    @asynccontextmanager
    async def receiver(self, turn: Turn, sockets: Sockets) -> AsyncGenerator[None]:
        """What a consumer does: a channel of its own, added to the user's group; each message dumped for the socket."""
        layer = self._layer(turn)

        async def consume(channel: str, socket: Socket) -> None:
            while True:
                message = await layer.receive(channel)
                socket.take(json.dumps(message["event"]))

        try:
            channels: dict[str, str] = {}
            # Clients come one after the other: a thousand at the same moment are more than redis-py's pool takes.
            for user in turn.users:
                channels[user] = await layer.new_channel()
                await layer.group_add(f"user_{user}", channels[user])
            async with reading([consume(channel, sockets.of(user)) for user, channel in channels.items()]):
                yield
        finally:
            await layer.flush()

    def _layer(self, turn: Turn) -> Any:  # noqa: ANN401 -- a layer
        return library("channels_redis.pubsub").RedisPubSubChannelLayer(hosts=self._hosts(turn))

    @staticmethod
    def _hosts(turn: Turn) -> list[dict[str, Any]]:
        # redis-py 8 times out after the very 5 s for which the layer has the server wait.
        return [{"address": turn.url, "socket_timeout": None}]


class ChannelsLayer(ChannelsPubSub):
    """The default layer. It drops what is over its capacity, 100 by default; here it has room for all."""

    def _layer(self, turn: Turn) -> Any:  # noqa: ANN401 -- a layer
        room = turn.events + turn.warmup
        return library("channels_redis.core").RedisChannelLayer(hosts=self._hosts(turn), capacity=room)


@frozen
class _Sender(WaitingSender):
    layer: Any

    async def publish(self, numbers: Iterable[int]) -> None:
        """`await layer.group_send(f"user_{user}", {"type": …, "event": {…}})`."""
        for number in numbers:
            user = user_id(number)
            await self.layer.group_send(f"user_{user}", {"type": "user.event", "event": nested(number, user)})
