"""Real brokers for tests, examples and benchmarks.

    from tests.brokers import RedisServer

    with RedisServer() as server:
        ...                      # server.url, server.kill(), server.restart(), server.freeze()

`open_broker("redis")` takes what there is: a URL from the environment, a server on PATH, one from a wheel,
a container. Nothing here imports pytest, and no server outlives the process that started it.
"""

from __future__ import annotations

from tests.brokers.broker import (
    Broker,
    BrokerFailed,
    BrokerUnavailable,
    ExternalBroker,
    Kind,
    OptionsUnavailable,
    OwnBroker,
    TlsUnavailable,
)
from tests.brokers.nats_cluster import NatsCluster, NatsNode
from tests.brokers.nats_server import NatsServer
from tests.brokers.opening import open_broker, open_own_broker
from tests.brokers.process import ProcessBroker, Tls, free_port
from tests.brokers.redis_cluster import RedisCluster
from tests.brokers.redis_server import RedisServer

__all__ = [
    "Broker",
    "BrokerFailed",
    "BrokerUnavailable",
    "ExternalBroker",
    "Kind",
    "NatsCluster",
    "NatsNode",
    "NatsServer",
    "OptionsUnavailable",
    "OwnBroker",
    "ProcessBroker",
    "RedisCluster",
    "RedisServer",
    "Tls",
    "TlsUnavailable",
    "free_port",
    "open_broker",
    "open_own_broker",
]
