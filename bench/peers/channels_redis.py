"""channels_redis: its layer over pub/sub, and the older one that keeps messages in Redis."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from bench.job import Job
from bench.libraries import library
from bench.publishing import Publish

__all__ = ["layer_publisher", "layer_receive", "pubsub_publisher", "pubsub_receive"]


def _hosts(job: Job) -> list[dict[str, Any]]:
    # redis-py 8 times out after the very 5 s for which the layer has the server wait.
    return [{"address": job.url, "socket_timeout": None}]


def _pubsub(job: Job) -> Any:  # noqa: ANN401 -- a layer
    return library("channels_redis.pubsub").RedisPubSubChannelLayer(hosts=_hosts(job))


def _layer(job: Job) -> Any:  # noqa: ANN401 -- a layer
    # It drops what is over the capacity, 100 by default; here is room for all.
    room = job.events + job.warmup
    return library("channels_redis.core").RedisChannelLayer(hosts=_hosts(job), capacity=room)


def _group(job: Job) -> str:
    return job.channel.replace(":", ".")


@asynccontextmanager
async def _publisher(job: Job, make: Callable[[Job], Any]) -> AsyncGenerator[Publish]:
    """`await layer.group_send(…)` of a text, as in the tutorial."""
    layer, group = make(job), _group(job)

    async def publish(number: int) -> None:
        await layer.group_send(group, {"type": "chat.message", "message": job.json(number).decode()})

    try:
        yield publish
    finally:
        await layer.flush()


async def _receive(job: Job, take: Callable[[Any], None], make: Callable[[Job], Any]) -> AsyncIterator[None]:
    """A channel of its own in the group, received from as a consumer does."""
    layer = make(job)
    try:
        channel = await layer.new_channel()
        await layer.group_add(_group(job), channel)
        yield
        while True:
            take((await layer.receive(channel))["message"])
    finally:
        await layer.flush()


pubsub_publisher = partial(_publisher, make=_pubsub)
pubsub_receive = partial(_receive, make=_pubsub)
layer_publisher = partial(_publisher, make=_layer)
layer_receive = partial(_receive, make=_layer)
