"""A link's socket is closed also when the closing itself is cancelled: by its deadline, or by the end of the loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from backplane_core import Transport
from backplane_nats import NatsTransport
from backplane_redis import ClusterStreamsTransport, ClusterTransport, RedisTransport, StreamsTransport
from backplane_testservers.leftovers import no_leftovers
from redis.credentials import CredentialProvider

TURNS = range(10)
"""When to cancel, in turns of the loop from its first one: in each of its awaits, and after it ended."""


class NoSecret(CredentialProvider):
    """What a server without passwords accepts."""

    def get_credentials(self) -> tuple[str, str]:
        return ("default", "any")


@pytest.fixture(
    params=[
        *("redis", "resp2", "streams", "cluster", "cluster-streams"),
        *("redis renewed", "streams renewed", "cluster renewed", "cluster-streams renewed"),
    ]
)
def redis_transport(request: pytest.FixtureRequest) -> Transport:
    """A new one, of each kind; some keep their credentials from expiring."""
    kind, _, renewed = request.param.partition(" ")
    options: dict[str, Any] = {"credential_provider": NoSecret(), "renew_credentials_s": 600} if renewed else {}
    if kind.startswith("cluster"):
        cluster_url: str = request.getfixturevalue("shared_redis_cluster").url
        if kind == "cluster":
            return ClusterTransport(cluster_url, connection_kwargs=options)
        return ClusterStreamsTransport(cluster_url.replace("://", "+streams://", 1), connection_kwargs=options)
    url: str = request.getfixturevalue("redis_url")
    if kind == "streams":
        return StreamsTransport(url.replace("://", "+streams://", 1), connection_kwargs=options)
    return RedisTransport(url, connection_kwargs={"protocol": 2} if kind == "resp2" else options)


@pytest.mark.every_loop
async def test_a_close_that_is_cancelled_leaves_no_socket_and_no_task(redis_transport: Transport) -> None:
    await check_that_closing_leaves_nothing(redis_transport)


@pytest.mark.every_loop
async def test_a_close_over_nats_that_is_cancelled_leaves_no_socket_and_no_task(nats_url: str) -> None:
    await check_that_closing_leaves_nothing(NatsTransport(nats_url))


async def check_that_closing_leaves_nothing(transport: Transport) -> None:
    for turns in TURNS:
        async with no_leftovers():
            link = await transport.open()
            closing = asyncio.create_task(link.aclose())
            # At least once: a task that is cancelled before it began runs nothing, not even what closes.
            for _ in range(turns + 1):
                await asyncio.sleep(0)
            closing.cancel()
            await asyncio.wait({closing})
