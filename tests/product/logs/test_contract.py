"""Every check of the contract kit over our transports that keep a log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import define, field
from backplane_core import Transport
from backplane_core.testing import (
    FLEET_CHECKS,
    LINK_CHECKS,
    OUTAGE_CHECKS,
    FleetCheck,
    Harness,
    LinkCheck,
    MemoryLog,
    MemoryLogTransport,
)
from backplane_redis import StreamsTransport

from tests.product.contract.harnesses import BrokerHarness

OUTAGES = {check.__name__ for check in OUTAGE_CHECKS}


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


def streams(url: str) -> Transport:
    return StreamsTransport(url.replace("://", "+streams://", 1))


OPENERS: dict[str, Callable[[str], Transport]] = {"redis": streams}


@pytest.fixture(params=["memory", *OPENERS])
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """A harness with a broker of its own for a check that cuts it, and over the shared one for any other."""
    if request.param == "memory":
        yield MemoryLogHarness()
        return
    check: Any = request.getfixturevalue("check")
    kind = f"{request.param}_server" if check.__name__ in OUTAGES else f"shared_{request.param}"
    yield BrokerHarness(request.getfixturevalue(kind), OPENERS[request.param])


@pytest.mark.parametrize("check", LINK_CHECKS, ids=lambda check: check.__name__)
async def test_link(check: LinkCheck, harness: Harness) -> None:
    await check(harness)


@pytest.mark.parametrize("check", FLEET_CHECKS, ids=lambda check: check.__name__)
async def test_fleet(check: FleetCheck, harness: Harness) -> None:
    await check(harness, "broadcast")
