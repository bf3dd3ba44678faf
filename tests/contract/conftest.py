from __future__ import annotations

from typing import Any, cast

import pytest
from backplane_core import Transport
from backplane_core.testing import OUTAGE_CHECKS, ContractError, Harness
from backplane_nats import NatsTransport
from backplane_redis import RedisTransport
from backplane_redis._connection import LinkConnection

from tests.brokers import Broker, NatsCluster
from tests.contract.harnesses import BrokerHarness, MemoryHarness
from tests.redis.conftest import no_stream

OUTAGES = {check.__name__ for check in OUTAGE_CHECKS}
TRANSPORTS: dict[str, type[Transport]] = {"redis": RedisTransport, "nats": NatsTransport}


def _unknown(_name: str) -> str:
    return "3.0.0"


def _this_node_alone(url: str) -> Transport:
    return NatsTransport(f"{url}?ignore_discovered_servers=true")


@pytest.fixture
def harness(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, leaves_nothing: None) -> Harness:
    """A harness with a broker of its own for a check that cuts it, and over the shared one for any other.

    `_public`: over the adapter's fall-back, the public API of a client library that it does not know.
    `_node`: on one node of a cluster.
    """
    if request.param == "memory":
        return MemoryHarness()
    kind, _, way = request.param.partition("_")
    if way == "public":
        monkeypatch.setattr(LinkConnection, "stream", no_stream)
        monkeypatch.setattr("backplane_nats._internals.version", _unknown)
    check: Any = request.getfixturevalue("check")
    if request.param == "redis_public" and check.__name__ == "check_a_batch_arrives_in_few_lists":
        reason = "redis-py's public API gives one reply per call: slower, and nothing is lost by it"
        request.applymarker(pytest.mark.xfail(raises=ContractError, strict=True, reason=reason))
    own = check.__name__ in OUTAGES
    if way == "node":
        cluster = cast("NatsCluster", request.getfixturevalue("cluster" if own else "shared_cluster"))
        return BrokerHarness(cluster.nodes[0], _this_node_alone)
    broker = cast("Broker", request.getfixturevalue(f"{kind}_server" if own else f"shared_{kind}"))
    return BrokerHarness(broker, TRANSPORTS[kind])
