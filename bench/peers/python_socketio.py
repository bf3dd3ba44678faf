"""python-socketio: an external process emits by a write-only `AsyncRedisManager`, an `AsyncServer` holds the socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from bench.job import Job
from bench.libraries import library
from bench.peers.waiting import heard
from bench.publishing import Publish

__all__ = ["publisher", "receive"]

_NAMESPACE = "/"
_ROOM = "u1"
_SOCKET = "socket-1"


@asynccontextmanager
async def publisher(job: Job) -> AsyncGenerator[Publish]:
    """`await manager.emit(…, room=…)`, as its page on emitting from external processes has it."""
    manager = library("socketio").AsyncRedisManager(job.url, channel=job.channel, write_only=True)

    async def publish(number: int) -> None:
        await manager.emit("event", job.event(number), room=_ROOM)

    try:
        yield publish
    finally:
        await manager.redis.aclose()


class _Socket:
    """Stands where Engine.IO's WebSocket stands; what is sent to it is ready for the network."""

    closed = False

    def __init__(self, take: Callable[[Any], None]) -> None:
        self._take = take

    async def send(self, packet: Any) -> None:  # noqa: ANN401 -- an Engine.IO packet
        self._take(packet.data[len('2["event",') :])


async def receive(job: Job, take: Callable[[Any], None]) -> AsyncIterator[None]:
    """A server with one connected socket in the room."""
    manager = library("socketio").AsyncRedisManager(job.url, channel=job.channel)
    server = library("socketio").AsyncServer(client_manager=manager, async_mode="asgi")
    server.eio.sockets[_SOCKET] = _Socket(take)
    # What the server does when its first client comes.
    manager.initialize()
    sid = await manager.connect(_SOCKET, _NAMESPACE)
    await server.enter_room(sid, _ROOM)
    try:
        await heard(job.url, job.channel)
        yield
        await asyncio.Future()
    finally:
        manager.thread.cancel()
        await asyncio.wait({manager.thread})
        await manager.pubsub.aclose()
        await manager.redis.aclose()
