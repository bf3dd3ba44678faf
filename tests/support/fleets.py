"""Fleets of pods in this process: over a broker in memory, or a real one."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from attrs import define, field
from backplane_core import BaseBackplane, DistributedBackplane, Target, connect
from backplane_core.testing import MemoryBroker, MemoryTransport

from tests.support.sockets import Socket, attach

__all__ = ["Fleet", "MemoryFleet"]


@define
class Fleet:
    """Opens pods that share a broker, a channel and a routing; whoever made it closes `stack` at the end.

    Args:
        url: Of the broker.
        options: Of every pod.
    """

    url: str
    options: dict[str, Any]
    stack: AsyncExitStack = field(factory=AsyncExitStack)

    async def pod(self, **options: Any) -> BaseBackplane:
        return await self.stack.enter_async_context(connect(self.url, **{**self.options, **options}))

    @staticmethod
    async def socket(pod: BaseBackplane, conn_id: str, *targets: Target) -> Socket:
        return await attach(pod, conn_id, *targets)


@define
class MemoryFleet:
    """Opens pods over one `MemoryBroker`."""

    routing: str = "broadcast"
    broker: MemoryBroker = field(factory=MemoryBroker)
    stack: AsyncExitStack = field(factory=AsyncExitStack)

    def make(self, transport: MemoryTransport | None = None, **options: Any) -> DistributedBackplane:
        """A pod that is not open yet."""
        chosen: dict[str, Any] = {"routing": self.routing, **options}
        return DistributedBackplane(MemoryTransport(self.broker) if transport is None else transport, **chosen)

    async def pod(self, transport: MemoryTransport | None = None, **options: Any) -> DistributedBackplane:
        return await self.stack.enter_async_context(self.make(transport, **options))

    @staticmethod
    async def socket(pod: BaseBackplane, conn_id: str, *targets: Target) -> Socket:
        return await attach(pod, conn_id, *targets)
