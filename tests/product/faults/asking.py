"""What the broker itself says: how many clients and subscriptions it has, how many commands it took."""

from __future__ import annotations

import json
from typing import Any, cast
from urllib.request import urlopen

import redis
from backplane_testservers import NatsServer, ProcessBroker, RedisServer, free_port

__all__ = ["client_names", "clients", "monitored_nats", "subscribe_commands", "subscriptions"]


def monitored_nats(**options: Any) -> NatsServer:
    """A NATS server that can be asked."""
    return NatsServer(extra=[f"http: 127.0.0.1:{free_port()}"], **options)


def clients(broker: ProcessBroker) -> int:
    """How many connections of ours it has."""
    if isinstance(broker, RedisServer):
        with _redis(broker) as asked:
            return sum([client["name"] == "backplane" for client in asked.client_list()])
    return int(_nats(broker, "connz")["num_connections"])


def client_names(broker: ProcessBroker) -> list[str]:
    """The names of a NATS server's connections."""
    return [str(connection.get("name", "")) for connection in _nats(broker, "connz")["connections"]]


def subscriptions(broker: ProcessBroker) -> int:
    """How many subscriptions of clients it holds; on Redis how many channels."""
    if isinstance(broker, RedisServer):
        with _redis(broker) as asked:
            return len(asked.pubsub_channels())
    return sum([int(connection["subscriptions"]) for connection in _nats(broker, "connz")["connections"]])


def subscribe_commands(broker: RedisServer) -> int:
    """How often SUBSCRIBE and UNSUBSCRIBE were called, each with as many channels as it held."""
    with _redis(broker) as asked:
        stats = asked.info("commandstats")
    return sum([stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("subscribe", "unsubscribe")])


def _redis(broker: RedisServer) -> Any:
    untyped: Any = redis  # as far as a strict checker sees
    return untyped.Redis.from_url(broker.url, decode_responses=True)


def _nats(broker: ProcessBroker, page: str) -> dict[str, Any]:
    where = next(line for line in broker.extra if line.startswith("http: ")).removeprefix("http: ")
    with urlopen(f"http://{where}/{page}", timeout=10) as answer:
        return cast("dict[str, Any]", json.load(answer))
