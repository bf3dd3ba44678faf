"""How often a pod that is far from its Redis waits for it before it is live, and that what it waits for has an end."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import redis
from backplane_core import Frame, Lost, Transport
from backplane_redis import RedisTransport, StreamsTransport
from backplane_testservers import Proxy, RedisServer

from tests.conftest import StartServer

LATE_S: Final = 0.1
"""In each direction: far more than this machine takes for a step, so that what goes out at once counts as one trip."""
PAGE: Final = 600
"""Entries that are added whenever a pod has asked for some: more than it gets at once."""


class Trips:
    """Counts how often something goes out after something came in, over all connections."""

    def __init__(self, proxy: Proxy) -> None:
        self._trips = 0
        self._is_out = False
        proxy.up.tap, proxy.down.tap = self._up, self._down
        for way in (proxy.up, proxy.down):
            way.delay(LATE_S)

    def taken(self) -> int:
        """Return how many there were since the last call."""
        trips, self._trips, self._is_out = self._trips, 0, False
        return trips

    def _up(self, _: bytes) -> None:
        self._trips += not self._is_out
        self._is_out = True

    def _down(self, _: bytes) -> None:
        self._is_out = False


@pytest.mark.parametrize("login", ["", "pod:s3cr3t"], ids=["no password", "password"])
async def test_a_far_link_is_open_after_two_round_trips_and_the_first_over_a_log_after_three(
    start: StartServer, login: str
) -> None:
    rights = ["user pod on >s3cr3t ~* &* +@all", "user default off"] if login else []
    server = start(RedisServer(extra=rights))
    with Proxy(server.host, server.port) as proxy:
        trips = Trips(proxy)
        place = f"{login}@{proxy.host}:{proxy.port}/0" if login else f"{proxy.host}:{proxy.port}/0"
        plain: Transport = RedisTransport(f"redis://{place}")
        log = StreamsTransport(f"redis+streams://{place}")
        for transport, most in ((plain, 2), (plain, 2), (log, 3), (log, 2)):
            link = await transport.open()
            assert 0 < trips.taken() <= most, transport
            await link.aclose()
            await asyncio.sleep(0)
            trips.taken()


@pytest.mark.usefixtures("streams_url")
async def test_a_pod_counts_what_is_behind_a_tear_though_the_stream_grows_faster_than_it_counts(
    redis_url: str, channel: str
) -> None:
    name = f"{channel}:@0"
    client: Any = redis.Redis.from_url(redis_url)  # pyright: ignore[reportUnknownMemberType] -- redis-py's gap
    address = urlsplit(redis_url)
    for number in range(1, 2 * PAGE):
        client.xadd(name, {"f": b"old"}, id=f"{number}-0")
    grown = 0
    with Proxy(str(address.hostname), address.port or 6379) as proxy:

        def grow(piece: bytes) -> None:
            nonlocal grown
            if b"XRANGE" in piece:
                pipe = client.pipeline(transaction=False)
                for _ in range(PAGE):
                    pipe.xadd(name, {"f": b"new"})
                pipe.execute()
                grown += 1

        proxy.up.tap = grow
        link = await StreamsTransport(proxy.url(redis_url).replace("://", "+streams://", 1)).open()
        async with aclosing(link), asyncio.timeout(30):
            # Behind the tenth: an entry that this stream does not have.
            begun = await link.resume([name], {name: "10-5/11"})
            assert grown > 1, "the stream grew meanwhile"
            assert begun == {name: "10-5/10"}
            frames: list[Frame | Lost] = []
            while len(frames) <= PAGE:
                frames += await anext(link.receive())
    lost, first, *_, last = frames
    assert isinstance(lost, Lost)
    assert lost.cause == "epoch"
    assert first == (name, b"old", "11-0/11")
    assert not isinstance(last, Lost)
    assert last[2:] == (f"{len(frames) + 9}-0/{len(frames) + 9}",)
    client.close()
