from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from backplane_core import BaseBackplane, InMemoryBackplane

from tests.support.fleets import MemoryFleet


@pytest.fixture(params=["broadcast", "interest"])
def routing(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def fleet(leaves_nothing: None, routing: str) -> AsyncIterator[MemoryFleet]:
    """A fleet in memory under each routing; what it leaves behind fails the test."""
    fleet = MemoryFleet(routing)
    async with fleet.stack:
        yield fleet


@pytest.fixture(params=["memory", "distributed"])
async def backplane(leaves_nothing: None, request: pytest.FixtureRequest) -> AsyncIterator[BaseBackplane]:
    """One pod: what it promises does not depend on whether there is a bus."""
    pod = InMemoryBackplane() if request.param == "memory" else MemoryFleet().make()
    async with pod:
        yield pod
