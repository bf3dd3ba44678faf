"""Brokers that close idle lines, and that pause their clients, as people configure them: nothing is lost by that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import redis
from backplane_core import Publisher, RoutingName, SyncPublisher, Target, connect
from backplane_testservers import OwnBroker, RedisServer

from tests.conftest import StartServer
from tests.support.sockets import attach
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("leaves_nothing")

USER = Target.user("u1")
KEYS = ["an example of a key, 32 characters"]


def execute(server: OwnBroker, *words: str) -> Any:
    """Run a command on a server and return its reply."""
    untyped: Any = redis  # as far as a strict checker sees
    with untyped.Redis(server.host, server.port) as client:
        return client.execute_command(*words)


@pytest.mark.parametrize("keys", [None, KEYS], ids=["plain", "signed"])
@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_publisher_whose_line_the_broker_closes_for_being_idle_loses_nothing(
    start: StartServer, channel: str, kind: str, keys: Any
) -> None:
    server = start(RedisServer(extra=["timeout 1"]))
    options: dict[str, Any] = {"channel": channel, "signing_keys": keys}
    async with connect(server.url, **options) as pod, Publisher(server.url, **options) as publisher:
        socket = await attach(pod, "c1", USER)
        with SyncPublisher(server.url, **options) as sync:
            sync.publish(USER, "the first publish connects")
            await socket.has(1)

            def has_had(links: int) -> Callable[[], bool]:
                def check() -> bool:
                    stats = sync.stats() if kind == "sync" else publisher.stats()
                    return stats is not None and stats.links >= links

                return check

            for cut in range(1, 3):
                await until(has_had(cut + 1), "the broker closed the idle line, and there is another")
                if kind == "sync":
                    await asyncio.to_thread(sync.publish, USER, cut)
                else:
                    await publisher.publish(USER, cut)
                assert (await socket.has(cut + 1))[-1] == cut
            assert pod.stats().links == 1, "a line that subscribes is never idle"
            assert pod.stats().duplicates == 0
            assert socket.gaps == []


@pytest.mark.parametrize("what", ["WRITE", "ALL"])
@pytest.mark.parametrize("routing", ["broadcast", "interest"])
async def test_a_broker_that_pauses_its_clients_costs_no_event(
    redis_server: OwnBroker, channel: str, routing: RoutingName, what: str
) -> None:
    options: dict[str, Any] = {"channel": channel, "routing": routing, "probe_interval_s": 0.5}
    async with connect(redis_server.url, **options) as here, connect(redis_server.url, **options) as there:
        socket = await attach(there, "c1", USER)
        await here.publish(USER, 0)
        await socket.has(1)
        execute(redis_server, "CLIENT", "PAUSE", "4000", what)
        number = 0
        while here.state == "live":
            number += 1
            await here.publish(USER, number)
            await asyncio.sleep(0.05)
        assert not here.ready()
        await here.wait_for_state("live", timeout_s=30)
        await there.wait_for_state("live", timeout_s=30)
        await here.publish(USER, number + 1)
        await until(lambda: socket.events[-1] == number + 1, "the event behind the pause")
        assert socket.events == sorted(set(socket.events)), "nothing twice, nothing out of order"
        missing = number + 2 - len(socket.events)
        assert missing == 0 or socket.gaps, "what is missing lies in a gap"
        assert here.stats().dropped == {}
