"""Not all libraries say when they are subscribed: `heard` asks the server."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import redis.asyncio

__all__ = ["heard"]

# Its own types are partly unknown to a strict checker.
_redis: Final[Any] = redis.asyncio


async def heard(url: str, channel: str) -> None:
    """Return once somebody is subscribed to this channel."""
    async with _redis.Redis.from_url(url) as client:
        while not dict(await client.pubsub_numsub(channel))[channel.encode()]:  # noqa: ASYNC110 -- Redis does not tell
            await asyncio.sleep(0.01)
