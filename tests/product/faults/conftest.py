from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from backplane_testservers import OwnBroker

from tests.product.faults.rig import Rig


@pytest.fixture(params=["broadcast", "interest"])
def routing(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def rig(leaves_nothing: None, broker: OwnBroker, routing: str, channel: str) -> AsyncIterator[Rig]:
    """A rig over each broker and routing; what it leaves behind fails the test."""
    async with Rig(broker, {"channel": channel, "routing": routing}) as rig:
        yield rig
