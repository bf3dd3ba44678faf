"""Real brokers for tests, examples and benchmarks.

    from backplane_testservers import RedisServer

    with RedisServer() as server:
        ...                      # server.url, server.kill(), server.restart(), server.freeze()

`open_broker("redis")` takes what there is: a URL from the environment, a server on PATH, one from a wheel,
a container. `Proxy` hurts the line to it. Nothing here imports pytest, and no server outlives the process that started
it.
"""

from __future__ import annotations

from backplane_testservers.broker import (
    Broker,
    BrokerFailed,
    BrokerUnavailable,
    ExternalBroker,
    Kind,
    OptionsUnavailable,
    OwnBroker,
    TlsUnavailable,
)
from backplane_testservers.nats_cluster import NatsCluster, NatsNode
from backplane_testservers.nats_server import NatsServer
from backplane_testservers.opening import open_broker, open_own_broker
from backplane_testservers.process import ProcessBroker, Tls, free_port
from backplane_testservers.proxy import Proxy
from backplane_testservers.redis_cluster import RedisCluster
from backplane_testservers.redis_server import RedisServer

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
    "Proxy",
    "RedisCluster",
    "RedisServer",
    "Tls",
    "TlsUnavailable",
    "free_port",
    "open_broker",
    "open_own_broker",
]
