from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from backplane_core import Transport
from backplane_core.testing import OUTAGE_CHECKS, ContractError, Harness
from backplane_nats import NatsTransport
from backplane_redis import ClusterTransport, RedisTransport
from backplane_redis._connection import LinkConnection
from backplane_testservers import Broker, BrokerUnavailable, NatsCluster, Proxy, RedisCluster, free_port

from tests.conftest import skip_or_fail
from tests.product.contract.harnesses import BrokerHarness, MemoryHarness, ProxiedHarness
from tests.product.redis.conftest import no_stream

OUTAGES = {check.__name__ for check in OUTAGE_CHECKS}
TRANSPORTS: dict[str, type[Transport]] = {"redis": RedisTransport, "nats": NatsTransport}


def _unknown(_name: str) -> str:
    return "3.0.0"


def _over_resp2(url: str) -> Transport:
    return RedisTransport(f"{url}?protocol=2")


def _this_node_alone(url: str) -> Transport:
    return NatsTransport(f"{url}?ignore_discovered_servers=true")


@pytest.fixture(scope="session")
def cut_cluster() -> Iterator[ProxiedHarness]:
    """A cluster of one node, which tells clients to come by way of a proxy."""
    port = free_port()
    try:
        with (
            Proxy("127.0.0.1", port) as proxy,
            RedisCluster(masters=1, ports={0: port}, announced_ports={0: proxy.port}) as cluster,
        ):
            yield ProxiedHarness(cluster.url, proxy, ClusterTransport)
    except BrokerUnavailable as error:
        skip_or_fail(error)


@pytest.fixture
def clusters_are_up(request: pytest.FixtureRequest) -> None:
    """Start a proxy's sockets, which are this process's own, before anybody looks for what a test leaves behind."""
    if "cluster" in request.node.callspec.params.values():
        request.getfixturevalue("cut_cluster")


@pytest.fixture
def harness(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, clusters_are_up: None, leaves_nothing: None
) -> Harness:
    """A harness with a broker of its own for a check that cuts it, and over the shared one for any other.

    `_public`: over the adapter's fall-back, the public API of a client library that it does not know.
    `_node`: on one node of a cluster.
    `_resp2`: over a connection for each direction.
    """
    if request.param == "memory":
        return MemoryHarness()
    check: Any = request.getfixturevalue("check")
    own = check.__name__ in OUTAGES
    if request.param == "cluster":
        if own:
            return cast("Harness", request.getfixturevalue("cut_cluster"))
        return BrokerHarness(cast("Broker", request.getfixturevalue("shared_redis_cluster")), ClusterTransport)
    kind, *ways = request.param.split("_")
    if "public" in ways:
        monkeypatch.setattr(LinkConnection, "stream", no_stream)
        monkeypatch.setattr("backplane_nats._inline_io.version", _unknown)
    if kind == "redis" and "public" in ways and check.__name__ == "check_a_batch_arrives_in_few_lists":
        reason = "redis-py's public API gives one reply per call: slower, and nothing is lost by it"
        request.applymarker(pytest.mark.xfail(raises=ContractError, strict=True, reason=reason))
    if "node" in ways:
        nats_cluster = cast("NatsCluster", request.getfixturevalue("nats_cluster" if own else "shared_nats_cluster"))
        return BrokerHarness(nats_cluster.nodes[0], _this_node_alone)
    broker = cast("Broker", request.getfixturevalue(f"{kind}_server" if own else f"shared_{kind}"))
    return BrokerHarness(broker, _over_resp2 if "resp2" in ways else TRANSPORTS[kind])
