"""python-socketio: a write-only `AsyncRedisManager` emits from outside, an `AsyncServer` has the sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

from attrs import frozen

from bench.events import nested, user_id
from bench.libraries import library
from bench.subjects.running import WaitingSender
from bench.subjects.turn import Socket, Sockets, Turn

__all__ = ["SocketIO", "subscribed"]

_NAMESPACE: Final = "/"


class SocketIO:
    """A room per user."""

    @asynccontextmanager
    async def sender(self, turn: Turn) -> AsyncGenerator[_Sender]:
        """As its page on emitting from external processes has it."""
        manager = library("socketio").AsyncRedisManager(turn.url, channel=turn.channel, write_only=True)
        try:
            yield _Sender(manager)
        finally:
            await manager.redis.aclose()

    @asynccontextmanager
    async def receiver(self, turn: Turn, sockets: Sockets) -> AsyncGenerator[None]:
        """A server whose sockets have connected, each in its user's room."""
        manager = library("socketio").AsyncRedisManager(turn.url, channel=turn.channel)
        server = library("socketio").AsyncServer(client_manager=manager, async_mode="asgi")
        # What the server does when its first client comes.
        manager.initialize()
        for user in turn.users:
            server.eio.sockets[user] = _EngineSocket(sockets.of(user))
            sid = await manager.connect(user, _NAMESPACE)
            await server.enter_room(sid, f"user_{user}")
        try:
            await subscribed(turn.url, turn.channel)
            yield
        finally:
            manager.thread.cancel()
            await asyncio.wait({manager.thread})
            await manager.pubsub.aclose()
            await manager.redis.aclose()


class _EngineSocket:
    """Stands where Engine.IO's WebSocket stands; what is sent to it is ready for the network."""

    closed = False

    def __init__(self, socket: Socket) -> None:
        self._socket = socket

    async def send(self, packet: Any) -> None:  # noqa: ANN401 -- an Engine.IO packet
        self._socket.take(packet.data[len('2["event",') :])


@frozen
class _Sender(WaitingSender):
    manager: Any

    async def publish(self, numbers: Iterable[int]) -> None:
        """`await manager.emit("event", {…}, room=…)`."""
        for number in numbers:
            user = user_id(number)
            await self.manager.emit("event", nested(number, user), room=f"user_{user}")


async def subscribed(url: str, channel: str, count: int = 1) -> None:
    """Return once so many are subscribed to this channel, which python-socketio does not report."""
    async with library("redis.asyncio").Redis.from_url(url) as client:
        while dict(await client.pubsub_numsub(channel))[channel.encode()] < count:  # noqa: ASYNC110 -- only Redis knows
            await asyncio.sleep(0.01)
