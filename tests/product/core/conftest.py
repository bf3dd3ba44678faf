from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from backplane_core import BaseBackplane, InMemoryBackplane, Target
from backplane_testservers import Broker

from tests.support.fleets import MemoryFleet
from tests.support.sockets import Socket, attach


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


@pytest.fixture
def url(shared_broker: Broker) -> str:
    return shared_broker.url


@pytest.fixture
async def socket(pod: BaseBackplane) -> Socket:
    """A connection of user u1 on another pod, which the module's `pod` is."""
    return await attach(pod, "c1", Target.user("u1"))
