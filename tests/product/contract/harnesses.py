"""Harnesses of our own transports: memory, Redis, Redis Cluster and NATS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from attrs import define, field, frozen
from backplane_core import Transport
from backplane_core.testing import MemoryBroker, MemoryTransport
from backplane_testservers import Broker, OwnBroker, Proxy


@define
class MemoryHarness:
    """A broker in memory.

    Args:
        transport: Makes a transport from the broker.
    """

    transport: Callable[[MemoryBroker], Transport] = MemoryTransport
    broker: MemoryBroker = field(factory=MemoryBroker)

    def make(self) -> Transport:
        return self.transport(self.broker)

    async def cut(self) -> None:
        self.broker.cut()

    async def restore(self) -> None:
        self.broker.restore()


@frozen
class BrokerHarness:
    """A real broker. A shared one can't be cut.

    Args:
        broker: Runs already.
        transport: Makes a transport from its URL.
    """

    broker: Broker
    transport: Callable[[str], Transport]

    def make(self) -> Transport:
        return self.transport(self.broker.url)

    async def cut(self) -> None:
        assert isinstance(self.broker, OwnBroker), "this check is not in OUTAGE_CHECKS, so its broker is shared"
        await asyncio.to_thread(self.broker.kill)

    async def restore(self) -> None:
        if isinstance(self.broker, OwnBroker) and not self.broker.running:
            await asyncio.to_thread(self.broker.start)


@frozen
class ProxiedHarness:
    """A real broker behind a proxy, which is cut in its stead: a cluster takes seconds to come back.

    Args:
        url: Of the broker, by way of the proxy.
        proxy: Runs already.
        transport: Makes a transport from its URL.
    """

    url: str
    proxy: Proxy
    transport: Callable[[str], Transport]

    def make(self) -> Transport:
        return self.transport(self.url)

    async def cut(self) -> None:
        self.proxy.refuse()
        self.proxy.reset()

    async def restore(self) -> None:
        self.proxy.heal()
