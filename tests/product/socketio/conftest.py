from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from backplane_socketio import AsyncBackplaneManager
from backplane_testservers import Broker


@pytest.fixture(params=["broadcast", "interest"])
def routing(request: pytest.FixtureRequest) -> str:
    """To all servers, or by room."""
    return str(request.param)


@pytest.fixture
def make(shared_broker: Broker, routing: str, channel: str) -> Callable[..., AsyncBackplaneManager]:
    """Makes managers of one fleet."""

    def make(**options: Any) -> AsyncBackplaneManager:
        return AsyncBackplaneManager(shared_broker.url, channel, by_room=routing == "interest", **options)

    return make
