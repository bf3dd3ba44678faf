"""Plain classes that are a `Backplane`, a `Transport` or a `Link` without inheriting from anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from backplane_core import (
    Attachment,
    Backplane,
    BaseBackplane,
    DistributedBackplane,
    Excluded,
    Frame,
    Gap,
    InMemoryBackplane,
    Link,
    Lost,
    Observer,
    Publisher,
    Record,
    Sink,
    Target,
    Targets,
    Traits,
    Transport,
)
from backplane_core.testing import FaultyTransport, MemoryTransport
from backplane_nats import NatsBackplane, NatsTransport
from backplane_redis import RedisBackplane, RedisTransport


class Attached:
    def __init__(self, conn_id: str) -> None:
        self.conn_id = conn_id

    async def detach(self) -> None: ...


class Double:
    """A host's double: seven methods."""

    async def attach(
        self,
        conn_id: str,
        sink: Sink,
        *,
        raw: bool = False,
        on_gap: Any = None,
        info: object = None,
        on_close: Any = None,
        presence: object = None,
        presence_key: str | None = None,
    ) -> Attached:
        return Attached(conn_id)

    async def detach(self, conn_id: str) -> None: ...

    async def associate(self, conn_id: str, target: Target) -> bool:
        return True

    async def dissociate(self, conn_id: str, target: Target) -> None: ...

    async def publish(
        self,
        target: Targets,
        event: object,
        *,
        exclude: Excluded = (),
        key: str | None = None,
        event_id: str | None = None,
        trace: Mapping[str, str] | None = None,
    ) -> int:
        return 0

    async def publish_json(
        self,
        target: Targets,
        data: bytes | bytearray | memoryview | str,
        *,
        exclude: Excluded = (),
        key: str | None = None,
        event_id: str | None = None,
        trace: Mapping[str, str] | None = None,
    ) -> int:
        return 0

    async def aclose(self) -> None: ...


class PlainLink:
    async def subscribe(self, channels: Sequence[str]) -> None: ...

    async def unsubscribe(self, channels: Sequence[str]) -> None: ...

    async def send(self, frames: Sequence[Frame]) -> None: ...

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        yield [("channel", b"payload"), ("channel", b"payload", "cursor"), Lost("channel", "why", missed=1)]

    async def aclose(self) -> None: ...


class PlainTransport:
    traits: Traits = Traits(durable=False, max_payload_bytes=1024)

    async def open(self) -> PlainLink:
        return PlainLink()


def backplanes(
    memory: InMemoryBackplane, redis: RedisBackplane, nats: NatsBackplane, publisher: Publisher, base: BaseBackplane
) -> Sequence[Backplane]:
    return [memory, redis, nats, publisher, base, DistributedBackplane(PlainTransport()), Double()]


def attachments(double: Attached) -> Attachment:
    return double


def transports(
    memory: MemoryTransport, faulty: FaultyTransport, redis: RedisTransport, nats: NatsTransport
) -> Sequence[Transport]:
    return [memory, faulty, redis, nats, PlainTransport()]


async def links(transport: Transport) -> Sequence[Link]:
    return [PlainLink(), await transport.open()]


def observers() -> Sequence[Observer]:
    seen: list[Record] = []

    def observe(record: Record) -> None:
        if isinstance(record, Gap):
            print(record.cause)  # noqa: T201 -- for the checker alone

    return [seen.append, observe]
