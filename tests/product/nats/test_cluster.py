"""A cluster of three: which server is tried next, what is learnt of the others, and the word that one leaves."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import asyncio
import time

import pytest
from backplane_core import ConfigurationError, Proven, TransportError
from backplane_nats._link import ROUTE_LAG_S, AnnouncingNatsLink
from backplane_nats._servers import Servers
from backplane_nats._settings import REPORTS_LAME_DUCK, Settings
from backplane_nats.transport import NatsTransport
from backplane_testservers import NatsCluster, OwnBroker

from tests.product.faults.asking import client_names
from tests.product.nats.helpers import DEADLINE_S, PROMPT_S, listening, opened, speaking


def addresses(servers: Servers) -> list[str]:
    return [f"{server.host}:{server.port}" for server in servers.next_order()]


def test_the_urls_servers_come_first_then_the_announced_ones_and_failed_ones_last() -> None:
    settings = Settings.parse("nats://u:p@a,b?ignore_discovered_servers=false", {"dont_randomize": True})
    servers = Servers(settings)
    a, b = settings.servers
    servers.record_announced(a, ["c:4222", "b:4222", "10.0.0.1:4223", "[::1]:4222"])
    assert addresses(servers) == ["a:4222", "b:4222", "c:4222", "10.0.0.1:4223", "::1:4222"]
    servers.put_last(b)
    servers.put_last(a)
    assert addresses(servers) == ["c:4222", "b:4222", "10.0.0.1:4223", "::1:4222", "a:4222"], "one of ours comes soon"
    servers.put_last(b)
    servers.record_success(a)
    assert addresses(servers) == ["a:4222", "c:4222", "10.0.0.1:4223", "::1:4222", "b:4222"]
    servers.record_announced(a, ["d:1"])
    assert addresses(servers) == ["a:4222", "d:1", "b:4222"]
    servers.record_announced(a, [])
    assert "d:1" in addresses(servers), "a node that knows of nobody may be cut off"


def test_a_fleet_spreads_over_the_servers() -> None:
    settings = Settings.parse("nats://a", None)
    first: set[str] = set()
    for _ in range(200):
        servers = Servers(settings)
        servers.record_announced(settings.servers[0], ["b:1", "c:1", "d:1"])
        servers.put_last(settings.servers[0])
        first.add(addresses(servers)[0])
    assert first == {"b:1", "c:1", "d:1"}


def test_what_an_address_does_not_say_is_as_in_the_url() -> None:
    (server,) = Settings.parse("tls://u:secret@nats.example", None).servers
    by_ip, by_name = server.neighbour("10.0.0.1:4222"), server.neighbour("other.example:5222")
    assert by_ip is not None
    assert by_name is not None
    assert (by_ip.scheme, by_ip.credentials, by_ip.tls_name) == ("tls", server.credentials, "nats.example")
    assert (by_name.credentials, by_name.tls_name) == (server.credentials, None)
    again = by_ip.neighbour("10.0.0.2:4222")
    assert again is not None
    assert again.tls_name == "nats.example"
    assert "secret" not in f"{by_ip} {by_ip!r}"


@pytest.mark.parametrize("address", ["", "x@y:1", "a:b", "a:0", "a/b", "a b:1", "u:p@h:1"])
def test_an_address_that_is_none_is_left_alone(address: str) -> None:
    (server,) = Settings.parse("nats://a", None).servers
    assert server.neighbour(address) is None


@pytest.mark.parametrize("query", ["ignore_discovered_servers=yes", "ignore_discovered_servers="])
def test_the_switch_is_true_or_false(query: str) -> None:
    with pytest.raises(ConfigurationError, match="ignore_discovered_servers"):
        NatsTransport(f"nats://a?{query}")


async def test_a_node_that_the_url_does_not_name_takes_over(nats_cluster: NatsCluster) -> None:
    first, *others = nats_cluster.nodes
    transport = NatsTransport(first.url)
    link = await transport.open()
    first.kill()
    async with listening(link) as listener:
        await listener.error()
    await link.aclose()
    async with asyncio.timeout(PROMPT_S):
        link = await transport.open()
    assert [client_names(node) for node in others].count(["backplane"]) == 1
    await link.aclose()


async def test_discovered_servers_can_be_ignored(nats_cluster: NatsCluster) -> None:
    first = nats_cluster.nodes[0]
    transport = NatsTransport(f"{first.url}?ignore_discovered_servers=true")
    link = await transport.open()
    first.kill()
    await link.aclose()
    with pytest.raises(TransportError, match=str(first.port)) as caught:
        await transport.open()
    assert not any(str(node.port) in str(caught.value) for node in nats_cluster.nodes[1:])


async def test_a_silent_server_costs_its_time_only_once(nats_server: OwnBroker) -> None:
    async with speaking(b"", then_close_after=None) as silent:
        transport = NatsTransport(
            f"nats://{silent},127.0.0.1:{nats_server.port}", connection_kwargs={"dont_randomize": True}
        )
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):  # as core does, when its own patience ends
                await transport.open()
        assert str(transport._opener._servers.next_order()[-1]).endswith(silent), "others come first from now on"
        async with asyncio.timeout(DEADLINE_S):
            link = await transport.open()
        await link.aclose()


async def test_a_node_in_lame_duck_mode_says_so_and_serves_on(nats_cluster: NatsCluster, channel: str) -> None:
    node = nats_cluster.nodes[0]
    heard = asyncio.Event()

    async def lame_duck_mode_cb() -> None:
        heard.set()

    async with (
        opened(node.url, {"lame_duck_mode_cb": lame_duck_mode_cb} if REPORTS_LAME_DUCK else {}) as link,
        listening(link) as listener,
    ):
        if not REPORTS_LAME_DUCK:
            assert not hasattr(link, "leaving")
            pytest.skip("this nats-py does not report lame duck mode")
        assert isinstance(link, AnnouncingNatsLink)
        leaving = asyncio.create_task(link.leaving())
        await link.subscribe([channel])
        assert not leaving.done()
        node.enter_lame_duck()
        async with asyncio.timeout(DEADLINE_S):
            assert "lame duck" in await leaving
            assert "lame duck" in await link.leaving()
            await heard.wait()
        await link.send([(channel, b"1")])
        assert await listener.until(1) == [(channel, b"1")]


async def test_only_a_clusters_node_is_sure_of_less_than_it_confirmed(
    nats_cluster: NatsCluster, nats_url: str, channel: str
) -> None:
    async with opened(nats_url) as alone:
        await alone.send([(channel, b"1")])
        assert alone.proven() == Proven(received_until=None, replicated_until=None)
    async with opened(nats_cluster.url) as clustered:
        until = clustered.proven().replicated_until
        assert until is not None
        assert until <= time.monotonic() - ROUTE_LAG_S
        written_at = time.monotonic()
        await clustered.send([(channel, b"1")])
        proven = clustered.proven()
        assert proven.replicated_until is not None
        assert written_at - ROUTE_LAG_S <= proven.replicated_until <= time.monotonic() - ROUTE_LAG_S
        assert not proven.deposed
        assert proven.received_until is None
