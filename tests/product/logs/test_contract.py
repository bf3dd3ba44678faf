"""Every check of the contract kit over our transports that keep a log."""

from __future__ import annotations

import pytest
from attrs import define, field
from backplane_core import Transport
from backplane_core.testing import (
    FLEET_CHECKS,
    LINK_CHECKS,
    FleetCheck,
    LinkCheck,
    MemoryLog,
    MemoryLogTransport,
)


@define
class MemoryLogHarness:
    """Logs in memory."""

    broker: MemoryLog = field(factory=MemoryLog)

    def make(self) -> Transport:
        return MemoryLogTransport(self.broker)

    async def cut(self) -> None:
        self.broker.cut()

    async def restore(self) -> None:
        self.broker.restore()


@pytest.mark.parametrize("check", LINK_CHECKS, ids=lambda check: check.__name__)
async def test_link(check: LinkCheck) -> None:
    await check(MemoryLogHarness())


@pytest.mark.parametrize("check", FLEET_CHECKS, ids=lambda check: check.__name__)
async def test_fleet(check: FleetCheck) -> None:
    await check(MemoryLogHarness(), "broadcast")
