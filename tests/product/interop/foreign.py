"""Foreign pods: programs that speak the format's three members over the brokers' plain clients, with json alone.

They serve the five kinds, log and drop everyone and host kinds, and know neither `also` nor `exclude` nor `seq`, as
fleets do that were there before us. Nothing of backplane_core is used here but the words for targets.
"""

from __future__ import annotations

import asyncio
import json
import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, cast
from uuid import uuid4

import nats
import redis.asyncio
from attrs import define, field
from backplane_core import Target
from backplane_testservers import Broker

__all__ = ["CHANNEL", "SUBJECT", "ForeignPod", "foreign_pod"]

CHANNEL = "smooth-operator:backplane"
SUBJECT = "smooth-operator.backplane"
TAGS = {"connection": "Connection", "session": "Session", "user": "User", "org": "Org", "agent": "Agent"}

Sink = Callable[[Any], None]

logger = logging.getLogger("foreign")


@define(eq=False)
class ForeignPod(ABC):
    """A pod that knows origin, target and event.

    Args:
        origin: Its id on the bus.
        counts: Frames it heard: `own`, `dropped` for their kind, `delivered`, `nobody`s; and `beats` of ours among the
            latter. And `sent`.
        members: The names of the members of the frames that it heard, in their order.
    """

    origin: str = field(factory=lambda: uuid4().hex)
    counts: Counter[str] = field(factory=Counter[str])
    members: set[tuple[str, ...]] = field(factory=set[tuple[str, ...]])
    _sinks: dict[tuple[str, str], list[Sink]] = field(factory=dict[tuple[str, str], list[Sink]])

    async def attach(self, conn_id: str, sink: Sink, targets: Sequence[Target]) -> None:
        for target in targets:
            self._sinks.setdefault((TAGS[target.kind], target.id), []).append(sink)

    async def publish(self, events: Sequence[tuple[Target, Any]]) -> None:
        """Deliver here, then send, in order."""
        frames: list[bytes] = []
        for target, event in events:
            tag = (TAGS[target.kind], target.id)
            for sink in self._sinks.get(tag, ()):
                sink(event)
            frames.append(json.dumps({"origin": self.origin, "target": dict([tag]), "event": event}).encode())
        await self.send(frames)
        self.counts["sent"] += len(frames)

    def hear(self, payload: bytes) -> None:
        frame = json.loads(payload)
        self.members.add(tuple(frame))
        if frame["origin"] == self.origin:
            self.counts["own"] += 1
            return
        target = frame["target"]
        if isinstance(target, str):
            logger.debug("dropped: target %s", target)
            self.counts["dropped"] += 1
            return
        ((tag, id_),) = target.items()
        if tag not in TAGS.values():
            logger.debug("dropped: kind %s", tag)
            self.counts["dropped"] += 1
            return
        sinks = self._sinks.get((tag, id_), ())
        self.counts["delivered" if sinks else "nobody"] += 1
        self.counts["beats"] += (tag, id_, frame["event"]) == ("Connection", frame["origin"], None)
        for sink in sinks:
            sink(json.loads(json.dumps(frame["event"])))

    @abstractmethod
    async def send(self, frames: Sequence[bytes]) -> None:
        """Hand frames to the broker, in order."""


@define(eq=False)
class RedisPod(ForeignPod):
    client: Any = field(kw_only=True)

    async def send(self, frames: Sequence[bytes]) -> None:
        pipeline = self.client.pipeline(transaction=False)
        for frame in frames:
            pipeline.publish(CHANNEL, frame)
        await pipeline.execute()


@define(eq=False)
class NatsPod(ForeignPod):
    client: Any = field(kw_only=True)

    async def send(self, frames: Sequence[bytes]) -> None:
        for number, frame in enumerate(frames):
            # Now and then with headers, as tracing agents add them.
            await self.client.publish(SUBJECT, frame, headers={"traceparent": "00-1"} if number % 3 == 1 else None)
        await self.client.flush()


@asynccontextmanager
async def foreign_pod(broker: Broker) -> AsyncGenerator[ForeignPod]:
    """A foreign pod that is receiving."""
    async with _redis_pod(broker.url) if broker.kind == "redis" else _nats_pod(broker.url) as pod:
        yield pod


@asynccontextmanager
async def _redis_pod(url: str) -> AsyncGenerator[ForeignPod]:
    client = cast("Any", redis.asyncio.Redis.from_url(url))  # pyright: ignore[reportUnknownMemberType] -- it is not typed
    pod = RedisPod(client=client)
    async with client, client.pubsub(ignore_subscribe_messages=False) as pubsub:
        await pubsub.subscribe(CHANNEL)
        listening = asyncio.get_running_loop().create_future()

        async def listen() -> None:
            async for message in pubsub.listen():
                if message["type"] == "message":
                    pod.hear(message["data"])
                else:
                    listening.set_result(None)

        task = asyncio.create_task(listen())
        try:
            await asyncio.wait_for(listening, 10)
            yield pod
            # It died of nothing: neither a frame that it can't read, nor its connection.
            assert not task.done(), task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@asynccontextmanager
async def _nats_pod(url: str) -> AsyncGenerator[ForeignPod]:
    errors: list[Exception] = []

    async def failed(error: Exception) -> None:
        errors.append(error)

    client = cast("Any", await nats.connect(url, allow_reconnect=False, error_cb=failed))  # pyright: ignore[reportUnknownMemberType] -- likewise
    pod = NatsPod(client=client)

    async def hear(message: Any) -> None:
        pod.hear(message.data)

    try:
        await client.subscribe(SUBJECT, cb=hear)
        await client.flush()
        yield pod
        assert errors == []
    finally:
        await client.close()
