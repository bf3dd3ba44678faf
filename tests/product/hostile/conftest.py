from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from backplane_testservers import Broker

from tests.product.hostile.bus import Bus, opened
from tests.product.pods.conftest import fleet, routing

__all__ = ["bus", "fleet", "routing"]


@pytest.fixture
async def bus(leaves_nothing: None, shared_broker: Broker) -> AsyncIterator[Bus]:
    """A stranger on the fleet's broker."""
    async with opened(shared_broker) as bus:
        yield bus
