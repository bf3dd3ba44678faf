"""A stranger on the broker: writes any bytes to any channel and hears what passes, past Backplane."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import nats
from backplane_testservers import Broker
from redis.asyncio import Redis

DEADLINE_S = 20.0

Heard: TypeAlias = tuple[str, bytes]
"""A channel, and what was published on it."""


class Bus(ABC):
    """One plain client of the broker."""

    @abstractmethod
    async def write(self, channel: str, payloads: Iterable[bytes]) -> None:
        """Publish these in order; return once the broker has them."""

    @abstractmethod
    async def hear(self, channel: str) -> asyncio.Queue[Heard]:
        """Return what is published on the channel from now on; on NATS a wildcard will do."""


class RedisBus(Bus):
    def __init__(self, client: Any, tasks: asyncio.TaskGroup) -> None:
        self._client = client
        self._tasks = tasks
        self._listeners: list[asyncio.Task[None]] = []

    async def write(self, channel: str, payloads: Iterable[bytes]) -> None:
        for payload in payloads:
            await self._client.publish(channel, payload)

    async def hear(self, channel: str) -> asyncio.Queue[Heard]:
        heard: asyncio.Queue[Heard] = asyncio.Queue()
        confirmed = asyncio.Event()
        self._listeners.append(self._tasks.create_task(self._listen(channel, heard, confirmed)))
        async with asyncio.timeout(DEADLINE_S):
            await confirmed.wait()
        return heard

    async def _listen(self, channel: str, heard: asyncio.Queue[Heard], confirmed: asyncio.Event) -> None:
        async with self._client.pubsub() as subscription:
            await subscription.subscribe(channel)
            async for item in subscription.listen():
                if item["type"] == "message":
                    heard.put_nowait((item["channel"].decode(), item["data"]))
                confirmed.set()

    def stop(self) -> None:
        for listener in self._listeners:
            listener.cancel()


class NatsBus(Bus):
    def __init__(self, client: Any) -> None:
        self._client = client

    async def write(self, channel: str, payloads: Iterable[bytes]) -> None:
        for payload in payloads:
            await self._client.publish(channel.replace(":", "."), payload)
        await self._client.flush()

    async def hear(self, channel: str) -> asyncio.Queue[Heard]:
        heard: asyncio.Queue[Heard] = asyncio.Queue()

        async def take(message: Any) -> None:
            heard.put_nowait((message.subject.replace(".", ":"), message.data))

        await self._client.subscribe(channel.replace(":", "."), cb=take)
        await self._client.flush()
        return heard


@asynccontextmanager
async def opened(broker: Broker) -> AsyncGenerator[Bus]:
    """A stranger that has left, with its tasks and sockets, at the end."""
    if broker.kind == "redis":
        async with (
            Redis.from_url(broker.url) as redis,  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] -- redis-py's gap
            asyncio.TaskGroup() as tasks,
        ):
            bus = RedisBus(redis, tasks)
            yield bus
            bus.stop()
    else:
        client: Any = await nats.connect(broker.url)  # pyright: ignore[reportUnknownMemberType]
        try:
            yield NatsBus(client)
        finally:
            await client.close()
