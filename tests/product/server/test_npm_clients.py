"""npm's `eventsource` and `ws`, unchanged, over two gateways: they connect, hear, and come back."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from backplane_testservers import Broker, OwnBroker
from backplane_testservers.proxy import Proxy

from tests.product.server.gateways import Gateway, gateway, token
from tests.support.node import install_node
from tests.support.node_clients import NodeClients, node_clients
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("npm-clients")

SOURCE = Path(__file__).parent / "npm_clients"
CLIENTS = {"socket": "ws", "stream": "http"}
"""How a client is opened, and what its URL begins with."""
PATHS = {"socket": "/ws", "stream": "/events"}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("npm_clients")
    install_node(SOURCE, folder)
    return folder / "clients.mjs"


@pytest.fixture(params=["redis", "nats"])
def log_url(request: pytest.FixtureRequest) -> str:
    """The URL of a server that keeps logs."""
    if request.param == "redis":
        return str(request.getfixturevalue("streams_url"))
    server: OwnBroker = request.getfixturevalue("jetstream_server")
    return server.url.replace("nats://", "nats+jetstream://")


@pytest.fixture
async def npm(program: Path) -> AsyncIterator[NodeClients]:
    async with node_clients(program) as made:
        yield made


async def start_client(npm: NodeClients, kind: str, client: str, address: str, shown: str | None = None) -> None:
    """Let a client of that kind connect as Ann, unless it shows another token."""
    url = f"{CLIENTS[kind]}://{address}{PATHS[kind]}"
    await npm.do(kind, client, url=url, token=token() if shown is None else shown)


async def open_both(npm: NodeClients, here: str, there: str) -> None:
    """Connect a client of each kind, each to a gateway of its own."""
    for kind, address in (("socket", here), ("stream", there)):
        await start_client(npm, kind, kind, address)
        await npm.has(kind, opened=True)


def events_of(npm: NodeClients, client: str) -> list[object]:
    return [it["event"] for it in npm.all_of(client) if "event" in it]


async def publish(served: Gateway, event: object) -> None:
    status, answer = await served.publish(token(sub="job", backplane={"roles": ["publisher"]}), "user:ann", event)
    assert status == 200, answer


async def test_they_get_each_event_once_and_in_order_from_either_gateway(
    shared_broker: Broker, channel: str, npm: NodeClients
) -> None:
    bus: dict[str, Any] = {"url": shared_broker.url, "channel": channel}
    async with gateway(**bus) as here, gateway(**bus) as there:
        await open_both(npm, here.address, there.address)
        for number in range(20):
            await publish(here, {"n": number, "text": "naïve \u2028 ☃"})
        for number in range(20, 40):
            await publish(there, {"n": number, "text": "\n"})
        for client in CLIENTS:
            await until(lambda: len(events_of(npm, client)) >= 40, "all events")  # noqa: B023 -- awaited here
            found: list[int] = [it["event"]["n"] for it in npm.all_of(client) if "event" in it]
            assert [it for it in found if it < 20] == list(range(20)), "in the order of one pod"
            assert [it for it in found if it >= 20] == list(range(20, 40))
        assert not any(it.get("isBinary") for it in npm.said), "text"
        assert {it["event"]["text"] for it in npm.said if "event" in it} == {"naïve \u2028 ☃", "\n"}


async def test_who_is_refused_learns_it_and_does_not_come_back(redis_url: str, channel: str, npm: NodeClients) -> None:
    async with gateway(url=redis_url, channel=channel) as served:
        await start_client(npm, "socket", "socket", served.address, shown="wrong")
        await start_client(npm, "stream", "stream", served.address, shown="wrong")
        refused = await npm.has("socket", closed=4401)
        assert refused["reason"]
        await npm.has("stream", ended=401, state=2)


async def test_after_a_broker_was_killed_they_learn_of_the_gap_and_hear_what_follows(
    broker: OwnBroker, channel: str, npm: NodeClients
) -> None:
    bus: dict[str, Any] = {"url": broker.url, "channel": channel}
    async with gateway(**bus) as here, gateway(**bus) as there:
        await open_both(npm, here.address, there.address)
        await publish(here, "before")
        for client in CLIENTS:
            await npm.has(client, event="before")
        broker.kill()
        broker.start()
        await npm.has("socket", closed=1012)
        await npm.has("socket", count=2, opened=True)
        await until(lambda: any("gap" in it for it in npm.all_of("stream")), "a stream goes on, with a gap in it")
        await publish(here, "after")
        for client in CLIENTS:
            await npm.has(client, event="after")
            assert events_of(npm, client) == ["before", "after"]


async def test_over_a_log_a_broker_that_is_killed_costs_them_neither_an_event_nor_the_connection(
    jetstream_server: OwnBroker, channel: str, npm: NodeClients
) -> None:
    bus: dict[str, Any] = {"url": jetstream_server.url.replace("nats://", "nats+jetstream://"), "channel": channel}
    async with gateway(**bus) as here, gateway(**bus) as there:
        await open_both(npm, here.address, there.address)
        await publish(here, "before")
        for client in CLIENTS:
            await npm.has(client, event="before")
        jetstream_server.kill()
        await publish(here, "while it is down")
        jetstream_server.start()
        await publish(here, "after")
        for client in CLIENTS:
            await npm.has(client, event="after")
            assert events_of(npm, client) == ["before", "while it is down", "after"]
            assert len(npm.all_of(client, opened=True)) == 1


async def test_gateways_are_restarted_one_after_the_other_and_they_follow(
    shared_broker: Broker, channel: str, npm: NodeClients
) -> None:
    url = shared_broker.url
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(gateway("--drain-s", "1", url=url, channel=channel))
        balancer = stack.enter_context(Proxy("127.0.0.1", int(first.address.rpartition(":")[2])))
        address = f"127.0.0.1:{balancer.port}"
        await open_both(npm, address, address)
        await publish(first, "before")
        for client in CLIENTS:
            await npm.has(client, event="before")
        second = await stack.enter_async_context(gateway(url=url, channel=channel))
        balancer.lead_to("127.0.0.1", int(second.address.rpartition(":")[2]))
        first.running.process.send_signal(signal.SIGTERM)
        ended = await first.running.ended()
        assert (ended.code, ended.err) == (0, "")
        closed = await npm.has("socket", closed=1012)
        assert closed["reason"]
        for client in CLIENTS:
            await npm.has(client, count=2, opened=True)
        await publish(second, "after")
        for client in CLIENTS:
            await npm.has(client, event="after")


async def test_over_a_log_a_stream_that_moves_to_a_new_gateway_has_what_was_published_meanwhile(
    log_url: str, channel: str, npm: NodeClients
) -> None:
    """Its `Last-Event-ID` is of the first event that the log ever had."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(gateway("--drain-s", "1", url=log_url, channel=channel))
        balancer = stack.enter_context(Proxy("127.0.0.1", int(first.address.rpartition(":")[2])))
        await start_client(npm, "stream", "stream", f"127.0.0.1:{balancer.port}")
        await npm.has("stream", opened=True)
        await publish(first, "before")
        await npm.has("stream", event="before")
        second = await stack.enter_async_context(gateway(url=log_url, channel=channel))
        balancer.lead_to("127.0.0.1", int(second.address.rpartition(":")[2]))
        balancer.refuse()
        first.running.process.send_signal(signal.SIGTERM)
        ended = await first.running.ended()
        assert (ended.code, ended.err) == (0, "")
        await publish(second, "meanwhile")
        balancer.accept()
        await npm.has("stream", count=2, opened=True)
        await publish(second, "after")
        await npm.has("stream", event="after")
        assert events_of(npm, "stream") == ["before", "meanwhile", "after"]
        assert not any("gap" in it for it in npm.all_of("stream"))
