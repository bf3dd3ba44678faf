from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from backplane_testservers import Broker

from tests.support.fleets import Fleet


@pytest.fixture(params=["broadcast", "interest"])
def routing(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def fleet(leaves_nothing: None, shared_broker: Broker, routing: str, channel: str) -> AsyncIterator[Fleet]:
    """A fleet over each broker and routing; what it leaves behind fails the test."""
    fleet = Fleet(shared_broker.url, {"channel": channel, "routing": routing})
    async with fleet.stack:
        yield fleet
