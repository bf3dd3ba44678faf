"""The brokers that a run may be over: `start_bus`."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, Literal, TypeAlias, get_args

from backplane_testservers import NatsCluster, OwnBroker, RedisCluster, SentinelSet, open_own_broker

__all__ = ["BUS_NAMES", "SINGLE", "Bus", "BusName", "start_bus"]

BusName: TypeAlias = Literal["redis", "nats", "redis-cluster", "nats-cluster", "sentinel"]
Bus: TypeAlias = OwnBroker | NatsCluster | SentinelSet

BUS_NAMES: Final[tuple[BusName, ...]] = get_args(BusName)
SINGLE: Final[frozenset[BusName]] = frozenset({"redis", "nats"})
"""One server, so that a proxy can stand before it."""


@contextmanager
def start_bus(name: BusName) -> Generator[Bus]:
    """Start a broker of the run's own.

    Raises:
        BrokerUnavailable: This machine has none of that kind.
    """
    if name == "redis" or name == "nats":  # noqa: PLR1714 -- a type checker narrows this one
        with open_own_broker(name) as server:
            yield server
    elif name == "redis-cluster":
        with RedisCluster() as redis_cluster:
            yield redis_cluster
    elif name == "nats-cluster":
        with NatsCluster(grace_s=1) as nats_cluster:
            yield nats_cluster
    else:
        with SentinelSet() as sentinels:
            yield sentinels
