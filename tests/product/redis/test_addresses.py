"""Where servers are reached: names with several addresses, announced ones that lead nowhere, certificates' names."""

from __future__ import annotations

from typing import Any

import pytest
from backplane_core import ConfigurationError, Target, TransportError, connect, connect_from_env
from backplane_testservers import RedisCluster, RedisServer, SentinelSet
from backplane_testservers.sentinels import SERVICE, ask
from backplane_testservers.tls import Certificates

from tests.conftest import StartServer
from tests.support.deaf import deaf_address, resolve
from tests.support.sockets import attach

USER = Target.user("u1")
ELSEWHERE = "127.0.0.9"
"""Nobody listens there, as at an address behind a NAT."""


async def check_events_pass(url: str, **options: Any) -> None:
    """Two pods on this URL hear each other."""
    async with connect(url, **options) as here, connect(url, **options) as there:
        socket = await attach(here, "c1", USER)
        await there.publish(USER, 1)
        assert await socket.has(1) == [1]


async def test_a_name_whose_first_address_swallows_packets_is_connected_to(
    start: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(RedisServer())
    resolve(monkeypatch, "cache.internal", "127.0.0.2", "127.0.0.1")
    with deaf_address("127.0.0.2", server.port):
        await check_events_pass(f"redis://cache.internal:{server.port}")


async def test_a_server_that_answers_nothing_is_named_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, "cache.internal", "127.0.0.2")
    with deaf_address("127.0.0.2") as port, pytest.raises(TransportError, match=rf"cache\.internal:{port}"):
        await connect(f"redis://pod:secret@cache.internal:{port}", connect_timeout_s=0.5)


@pytest.mark.parametrize("way", ["option", "mapping", "query", "environment"])
async def test_a_cluster_that_announces_what_leads_nowhere_is_reached_by_a_map(start: StartServer, way: str) -> None:
    cluster = start(RedisCluster(masters=1, extra=[f"cluster-announce-ip {ELSEWHERE}"]))
    pairs = {f"{ELSEWHERE}:{node.port}": f"127.0.0.1:{node.port}" for node in cluster.nodes}
    text = ",".join([f"{announced}={reachable}" for announced, reachable in pairs.items()])
    if way == "environment":
        env = {"BACKPLANE_URL": cluster.url, "BACKPLANE_ADDRESS_MAP": text, "BACKPLANE_ROUTING": "interest"}
        async with connect_from_env(env) as pod:
            assert pod.ready()
        return
    options: dict[str, Any] = {"routing": "interest"}
    url = cluster.url
    if way == "query":
        url += f"?address_map={text}"
    else:
        options["address_map"] = text if way == "option" else pairs
    await check_events_pass(url, **options)


async def test_an_announced_address_that_leads_nowhere_stands_in_the_error(start: StartServer) -> None:
    cluster = start(RedisCluster(masters=1, extra=[f"cluster-announce-ip {ELSEWHERE}"]))
    with pytest.raises(TransportError) as error:
        await connect(cluster.url, connect_timeout_s=1)
    assert f"{ELSEWHERE}:{cluster.nodes[0].port}" in str(error.value)
    assert "address_map" in str(error.value)


@pytest.mark.parametrize("kind", ["hostname", "unknown-endpoint"])
async def test_a_cluster_that_prefers_names_and_has_none_is_reached(start: StartServer, kind: str) -> None:
    cluster = start(RedisCluster(masters=2, extra=[f"cluster-preferred-endpoint-type {kind}"]))
    await check_events_pass(cluster.url, routing="interest")


async def test_sentinels_that_name_what_leads_nowhere_are_followed_by_a_map(shared_redis_cluster: object) -> None:
    with SentinelSet(replicas=0, sentinels=1) as sentinels:
        (watcher,), port = sentinels.watchers, sentinels.master.port
        ask(watcher, "SENTINEL", "REMOVE", SERVICE)
        ask(watcher, "SENTINEL", "MONITOR", SERVICE, ELSEWHERE, str(port), "1")
        with pytest.raises(TransportError, match=rf"{ELSEWHERE}:{port}.*address_map"):
            await connect(sentinels.url, connect_timeout_s=1)
        await check_events_pass(sentinels.url, address_map=f"{ELSEWHERE}=127.0.0.1")
        await check_events_pass(f"{sentinels.url}?address_map={ELSEWHERE}:{port}=127.0.0.1:{port}")


async def test_certificates_of_announced_addresses_are_checked_against_the_name_that_is_given(
    start: StartServer, certificates: Certificates
) -> None:
    cluster = start(RedisCluster(masters=1, tls=certificates.server, extra=["cluster-announce-ip 127.0.0.3"]))
    (node,) = cluster.nodes
    ca = f"ssl_ca_certs={certificates.server.ca}"
    url = f"rediss-cluster://localhost:{node.port}?{ca}&address_map=127.0.0.3=127.0.0.1"
    await check_events_pass(url)  # the reachable address is one that the certificate holds
    with pytest.raises(TransportError, match="elsewhere"):
        await connect(f"{url}&tls_hostname=elsewhere.internal", connect_timeout_s=1)
    await check_events_pass(f"{url}&tls_hostname=localhost")


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("redis://h?address_map=a=b", {}),
        ("redis://h", {"address_map": "a=b"}),
        ("unix:///run/redis.sock", {"address_map": "a=b"}),
        ("redis-cluster://h?address_map=a", {}),
        ("redis-cluster://h?address_map=a=b", {"address_map": "a=b"}),
        ("redis+sentinel://h/s?address_map=a=b=c", {}),
        ("redis+sentinel://h/s", {"address_map": {"a": "b/c"}}),
        ("redis://h?tls_hostname=name", {}),
        ("rediss://h?tls_hostname=", {}),
        ("rediss://h", {"connection_kwargs": {"tls_hostname": 5}}),
    ],
)
def test_a_map_or_name_that_is_none_or_does_not_apply_is_an_error_at_once(url: str, options: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"address_map|tls_hostname"):
        connect(url, **options)
