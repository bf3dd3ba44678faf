from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.brokers import Broker
from tests.hostile.bus import Bus, opened
from tests.pods.fleet import Fleet


@pytest.fixture(params=["broadcast", "interest"])
def routing(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def fleet(leaves_nothing: None, shared_broker: Broker, routing: str, channel: str) -> AsyncIterator[Fleet]:
    """A fleet over each broker and routing; what it leaves behind fails the test."""
    fleet = Fleet(shared_broker.url, {"channel": channel, "routing": routing})
    async with fleet.stack:
        yield fleet


@pytest.fixture
async def bus(leaves_nothing: None, shared_broker: Broker) -> AsyncIterator[Bus]:
    """A stranger on the fleet's broker."""
    async with opened(shared_broker) as bus:
        yield bus
