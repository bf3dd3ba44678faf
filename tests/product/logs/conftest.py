from __future__ import annotations

from typing import cast

import pytest
from backplane_testservers import OwnBroker

from tests.product.logs.servers import JetStreamServer, LogServer, RedisLogServer


@pytest.fixture(params=["redis", "jetstream"])
def log_server(request: pytest.FixtureRequest) -> LogServer:
    """A server of the test's own that keeps logs."""
    server = cast("OwnBroker", request.getfixturevalue(f"{request.param}_server"))
    return RedisLogServer(server) if request.param == "redis" else JetStreamServer(server)
