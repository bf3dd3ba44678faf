from __future__ import annotations

from typing import Any, cast

import pytest
from backplane_core import Transport
from backplane_core.testing import OUTAGE_CHECKS, Harness
from backplane_nats import NatsTransport
from backplane_redis import RedisTransport

from tests.brokers import Broker
from tests.contract.harnesses import BrokerHarness, MemoryHarness

OUTAGES = {check.__name__ for check in OUTAGE_CHECKS}
TRANSPORTS: dict[str, type[Transport]] = {"redis": RedisTransport, "nats": NatsTransport}


@pytest.fixture(params=["memory", "redis", "nats"])
def harness(request: pytest.FixtureRequest, leaves_nothing: None) -> Harness:
    """A harness with a broker of its own for a check that cuts it, and over the shared one for any other."""
    if request.param == "memory":
        return MemoryHarness()
    check: Any = request.getfixturevalue("check")
    own = check.__name__ in OUTAGES
    broker = cast("Broker", request.getfixturevalue(f"{request.param}_server" if own else f"shared_{request.param}"))
    return BrokerHarness(broker, TRANSPORTS[request.param])
