"""Open the best broker that this machine has: `open_broker`, `open_own_broker`."""

from __future__ import annotations

from backplane_testservers.broker import Broker, ExternalBroker, Kind, OwnBroker
from backplane_testservers.nats_server import NatsServer
from backplane_testservers.redis_server import RedisServer
from backplane_testservers.search import Binary, Image, Url, find, find_own

__all__ = ["open_broker", "open_own_broker"]


def open_broker(kind: Kind) -> Broker:
    """Return a broker that responds; close it when done. Others may use it too, and it may be one that can't be killed.

    Raises:
        BrokerUnavailable: There is none. The message says how to get one.
        BrokerFailed: There is one, but it did not come up.
    """
    source = find(kind)
    if isinstance(source, Url):
        return ExternalBroker(kind, source.url)
    return _start(kind, source)


def open_own_broker(kind: Kind) -> OwnBroker:
    """Return a started broker that nobody else uses and that may be killed; close it when done.

    Raises:
        BrokerUnavailable: There is none. The message says how to get one.
        BrokerFailed: There is one, but it did not come up.
    """
    return _start(kind, find_own(kind))


def _start(kind: Kind, source: Binary | Image) -> OwnBroker:
    broker = _make(kind, source)
    try:
        broker.start()
    except BaseException:
        broker.close()
        raise
    return broker


def _make(kind: Kind, source: Binary | Image) -> OwnBroker:
    if isinstance(source, Image):
        from backplane_testservers.container import ContainerBroker  # noqa: PLC0415 -- needs the dev group, for the last resort

        return ContainerBroker(kind=kind, image=source.name)
    server = RedisServer if kind == "redis" else NatsServer
    return server(binary=source.path)
