"""Every check of the contract kit over our transports that keep a log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import define, field
from backplane_core import Transport
from backplane_core.testing import (
    FLEET_CHECKS,
    LINK_CHECKS,
    OUTAGE_CHECKS,
    FleetCheck,
    Harness,
    LinkCheck,
    MemoryLog,
    MemoryLogTransport,
)
from backplane_nats import JetStreamTransport
from backplane_redis import ClusterStreamsTransport, StreamsTransport
from backplane_testservers import BrokerUnavailable, Proxy, RedisCluster, free_port

from tests.conftest import skip_or_fail
from tests.product.contract.harnesses import BrokerHarness, ProxiedHarness

OUTAGES = {check.__name__ for check in OUTAGE_CHECKS}


@define
class MemoryLogHarness:
    """Logs in memory."""

    broker: MemoryLog = field(factory=MemoryLog)

    def make(self) -> Transport:
        return MemoryLogTransport(self.broker)

    async def cut(self) -> None:
        self.broker.cut()

    async def restore(self) -> None:
        self.broker.restore()


def streams(url: str) -> Transport:
    return StreamsTransport(url.replace("://", "+streams://", 1))


def cluster(url: str) -> Transport:
    return ClusterStreamsTransport(url.replace("://", "+streams://", 1))


def jetstream(url: str) -> Transport:
    return JetStreamTransport(url.replace("://", "+jetstream://", 1))


def jetstream_in_memory(url: str) -> Transport:
    # The server sets `retain_bytes` aside for each stream, and these checks use hundreds of channels at once.
    return JetStreamTransport(url.replace("://", "+jetstream://", 1), retain_bytes=None, storage="memory")


def _unknown(_name: str) -> str:
    return "3.0.0"


OPENERS: dict[str, Callable[[str], Transport]] = {"redis": streams, "jetstream": jetstream}


@pytest.fixture(scope="module")
def cut_cluster() -> Iterator[ProxiedHarness]:
    """A cluster of one node, which tells clients to come by way of a proxy."""
    port = free_port()
    try:
        with (
            Proxy("127.0.0.1", port) as proxy,
            RedisCluster(masters=1, ports={0: port}, announced_ports={0: proxy.port}) as broker,
        ):
            yield ProxiedHarness(broker.url, proxy, cluster)
    except BrokerUnavailable as error:
        skip_or_fail(error)


@pytest.fixture
def harness(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    """A harness with a broker of its own for a check that cuts it, and over the shared one for any other.

    `_public`: over the adapter's fall-back, the public API of a client library that it does not know.
    """
    if request.param == "memory":
        yield MemoryLogHarness()
        return
    broker, *ways = request.param.split("_")
    if "public" in ways:
        monkeypatch.setattr("backplane_nats._inline_io.version", _unknown)
    check: Any = request.getfixturevalue("check")
    is_cut = check.__name__ in OUTAGES
    if broker == "cluster" and is_cut:
        yield request.getfixturevalue("cut_cluster")
    elif broker == "cluster":
        yield BrokerHarness(request.getfixturevalue("shared_redis_cluster"), cluster)
    elif broker == "jetstream":  # a server that has thousands of streams from other checks is slow
        opener = OPENERS[broker] if is_cut else jetstream_in_memory
        yield BrokerHarness(request.getfixturevalue("jetstream_server"), opener)
    else:
        kind = f"{broker}_server" if is_cut else f"shared_{broker}"
        yield BrokerHarness(request.getfixturevalue(kind), OPENERS[broker])


@pytest.mark.parametrize("harness", ["memory", "redis", "cluster", "jetstream", "jetstream_public"], indirect=True)
@pytest.mark.parametrize("check", LINK_CHECKS, ids=lambda check: check.__name__)
async def test_link(check: LinkCheck, harness: Harness) -> None:
    await check(harness)


@pytest.mark.parametrize("harness", ["memory", "redis", "cluster", "jetstream"], indirect=True)
@pytest.mark.parametrize("check", FLEET_CHECKS, ids=lambda check: check.__name__)
async def test_fleet(check: FleetCheck, harness: Harness) -> None:
    await check(harness, "broadcast")
