"""A link's socket is closed also when the closing itself is cancelled: by its deadline, or by the end of the loop."""

from __future__ import annotations

import asyncio

import pytest
from backplane_core import Transport
from backplane_nats import NatsTransport
from backplane_redis import ClusterTransport, RedisTransport, StreamsTransport
from backplane_testservers.leftovers import no_leftovers

TURNS = range(10)
"""When to cancel, in turns of the loop from its first one: in each of its awaits, and after it ended."""


@pytest.fixture(params=["redis", "resp2", "streams", "cluster", "nats"])
def transport(request: pytest.FixtureRequest) -> Transport:
    """A new one, of each kind."""
    if request.param == "redis":
        return RedisTransport(request.getfixturevalue("redis_url"))
    if request.param == "resp2":
        return RedisTransport(request.getfixturevalue("redis_url"), connection_kwargs={"protocol": 2})
    if request.param == "streams":
        return StreamsTransport(request.getfixturevalue("redis_url").replace("://", "+streams://", 1))
    if request.param == "nats":
        return NatsTransport(request.getfixturevalue("nats_url"))
    return ClusterTransport(request.getfixturevalue("shared_redis_cluster").url)


@pytest.mark.every_loop
async def test_a_close_that_is_cancelled_leaves_no_socket_and_no_task(transport: Transport) -> None:
    for turns in TURNS:
        async with no_leftovers():
            link = await transport.open()
            closing = asyncio.create_task(link.aclose())
            # At least once: a task that is cancelled before it began runs nothing, not even what closes.
            for _ in range(turns + 1):
                await asyncio.sleep(0)
            closing.cancel()
            await asyncio.wait({closing})
