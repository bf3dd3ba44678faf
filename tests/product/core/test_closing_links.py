"""A pod that is closed while it closes a dead link leaves that no less closed."""

from __future__ import annotations

import asyncio
from typing import Any

from backplane_core import DistributedBackplane, Link
from backplane_core.testing import MemoryBroker, MemoryTransport

from tests.support.links import LinkAround


class SlowToClose(LinkAround):
    """A link that closes its socket behind an await, as most client libraries do."""

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self.is_closing = asyncio.Event()
        self.may_close = asyncio.Event()
        self.is_closed = False

    async def aclose(self) -> None:
        self.is_closing.set()
        await self.may_close.wait()
        await self._link.aclose()
        self.is_closed = True


class Slow(MemoryTransport):
    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.opened: list[SlowToClose] = []

    async def open(self) -> Any:
        self.opened.append(SlowToClose(await super().open()))
        return self.opened[-1]


async def test_closing_a_pod_does_not_stop_the_closing_of_a_link_that_died(leaves_nothing: None) -> None:
    broker = MemoryBroker()
    transport = Slow(broker)
    pod = DistributedBackplane(transport)
    await pod.open()
    (link,) = transport.opened
    broker.cut()
    async with asyncio.timeout(10):
        await link.is_closing.wait()
        closing = asyncio.create_task(pod.aclose(drain_s=0))
        for _ in range(20):  # until what stops the pod has long come here
            await asyncio.sleep(0)
        link.may_close.set()
        await closing
    assert link.is_closed
