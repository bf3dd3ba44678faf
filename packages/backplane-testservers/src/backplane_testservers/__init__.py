"""Real brokers for tests, examples and benchmarks.

    from backplane_testservers import RedisServer

    with RedisServer() as server:
        ...              # server.url, server.kill(), server.restart(), server.freeze()

`RedisServer`, `RedisCluster`, `SentinelSet`, `NatsServer` and `NatsCluster` start what you describe. `open_broker` and
`open_own_broker` take what this machine has: a URL from the environment, a server on PATH, one from a wheel, a
container. `Proxy` stands between a client and a server, and cuts, holds or delays. `ScriptedRedis` and `ScriptedNats`
answer as a test's table says, for servers that no machine here has. No server outlives the process
that started it.

Certificates (`tls`), NATS keys (`nats_keys`), raw questions (`raw_client`) and the search for leftovers (`leftovers`)
stand in modules of their own, since some need packages of the `tests` extra.
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
from backplane_testservers.ports import free_port
from backplane_testservers.process import ProcessBroker, Tls
from backplane_testservers.proxy import Proxy
from backplane_testservers.redis_cluster import RedisCluster
from backplane_testservers.redis_server import RedisServer
from backplane_testservers.scripted import HANG_UP, SILENCE, USUAL, Late
from backplane_testservers.scripted_nats import ScriptedNats
from backplane_testservers.scripted_redis import ScriptedRedis
from backplane_testservers.sentinels import SentinelSet

__all__ = [
    "HANG_UP",
    "SILENCE",
    "USUAL",
    "Broker",
    "BrokerFailed",
    "BrokerUnavailable",
    "ExternalBroker",
    "Kind",
    "Late",
    "NatsCluster",
    "NatsNode",
    "NatsServer",
    "OptionsUnavailable",
    "OwnBroker",
    "ProcessBroker",
    "Proxy",
    "RedisCluster",
    "RedisServer",
    "ScriptedNats",
    "ScriptedRedis",
    "SentinelSet",
    "Tls",
    "TlsUnavailable",
    "free_port",
    "open_broker",
    "open_own_broker",
]
