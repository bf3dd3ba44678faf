from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from backplane_core import BaseBackplane, InMemoryBackplane
from hypothesis import HealthCheck, settings

from tests.product.core.helpers import MemoryFleet

# A shared machine is slow at times; a deadline per example would fail tests that are right.
settings.register_profile("core", deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(autouse=True)
def hypothesis_profile() -> Iterator[None]:
    settings.load_profile("core")
    yield
    settings.load_profile("default")


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
