"""Servers that keep logs, and what an operator does to them: `LogServer`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from attrs import frozen
from backplane_core import Transport
from backplane_nats import JetStreamTransport
from backplane_redis import ClusterStreamsTransport, StreamsTransport
from backplane_testservers import OwnBroker, RedisCluster
from nats.aio.client import Client
from redis.asyncio import Redis

__all__ = ["JetStreamServer", "LogServer", "RedisClusterLogServer", "RedisLogServer"]


class LogServer(Protocol):
    """A server of the test's own that keeps a log of each channel."""

    @property
    def broker(self) -> OwnBroker:
        """Its process."""
        ...

    @property
    def url(self) -> str:
        """What `connect` takes."""
        ...

    @property
    def options(self) -> Mapping[str, Any]:
        """With these a restart leaves nothing of the logs."""
        ...

    @property
    def queue_limit(self) -> str:
        """What says how many unfinished jobs a queue takes, for a test that makes it smaller."""
        ...

    def transport(self, **options: Any) -> Transport:
        """Return a transport to it."""
        ...

    async def delete(self, channels: Sequence[str]) -> None:
        """Delete these logs."""
        ...

    async def trim(self, channel: str, keep: int) -> None:
        """Drop the oldest entries of a log."""
        ...

    async def add(self, channel: str, payload: bytes) -> None:
        """Add an entry, as somebody does who is no pod."""
        ...


@frozen
class RedisLogServer:
    """Redis, without a disk."""

    broker: OwnBroker

    @property
    def url(self) -> str:
        return self.broker.url.replace("://", "+streams://", 1)

    @property
    def options(self) -> Mapping[str, Any]:
        return {}

    @property
    def queue_limit(self) -> str:
        return "backplane_redis._streams.rooms.MAX_ENTRIES"

    def transport(self, **options: Any) -> Transport:
        return StreamsTransport(self.url, **options)

    async def delete(self, channels: Sequence[str]) -> None:
        for channel in channels:
            await self._do("DEL", channel)

    async def trim(self, channel: str, keep: int) -> None:
        await self._do("XTRIM", channel, "MAXLEN", str(keep))

    async def add(self, channel: str, payload: bytes) -> None:
        await self._do("XADD", channel, "*", "f", payload)

    async def _do(self, command: str, channel: str, *words: str | bytes) -> None:
        client: Any = Redis(host=self.broker.host, port=self._port(channel))
        try:
            await client.execute_command(command, channel, *words)
        finally:
            await client.aclose()

    def _port(self, _channel: str) -> int:
        return self.broker.port


@frozen
class RedisClusterLogServer(RedisLogServer):
    """A cluster of Redis servers, without a disk."""

    broker: RedisCluster

    def transport(self, **options: Any) -> Transport:
        return ClusterStreamsTransport(self.url, **options)

    def _port(self, channel: str) -> int:
        return self.broker.master(channel).port


@frozen
class JetStreamServer:
    """NATS with JetStream, on a disk unless a test gives the options."""

    broker: OwnBroker

    @property
    def url(self) -> str:
        return self.broker.url.replace("://", "+jetstream://", 1)

    @property
    def options(self) -> Mapping[str, Any]:
        return {"storage": "memory"}

    @property
    def queue_limit(self) -> str:
        return "backplane_nats._jetstream.definition.QUEUE_ENTRIES"

    def transport(self, **options: Any) -> Transport:
        return JetStreamTransport(self.url, **options)

    async def delete(self, channels: Sequence[str]) -> None:
        for channel in channels:
            await self.ask(f"STREAM.DELETE.{_name(channel)}")

    async def trim(self, channel: str, keep: int) -> None:
        await self.ask(f"STREAM.PURGE.{_name(channel)}", {"keep": keep})

    async def add(self, channel: str, payload: bytes) -> None:
        await self.ask(channel.replace(":", "."), payload, api="")

    async def ask(self, subject: str, request: object = b"", api: str = "$JS.API.") -> Any:
        """Return what JetStream answers."""
        client: Any = Client()
        await client.connect(self.broker.url)
        try:
            payload = request if isinstance(request, bytes) else json.dumps(request).encode()
            answer = json.loads((await client.request(f"{api}{subject}", payload, timeout=10)).data)
        finally:
            await client.close()
        assert "error" not in answer, answer
        return answer


def _name(channel: str) -> str:
    return channel.replace(":", "+")
