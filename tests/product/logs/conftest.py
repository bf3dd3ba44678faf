from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest
from backplane_testservers import OwnBroker, RedisCluster

from tests.conftest import available
from tests.product.logs.servers import JetStreamServer, LogServer, RedisClusterLogServer, RedisLogServer


@pytest.fixture(params=["redis", "jetstream"])
def log_server(request: pytest.FixtureRequest) -> LogServer:
    """A server of the test's own that keeps logs."""
    server = cast("OwnBroker", request.getfixturevalue(f"{request.param}_server"))
    return RedisLogServer(server) if request.param == "redis" else JetStreamServer(server)


@pytest.fixture
def redis_cluster() -> Iterator[RedisCluster]:
    """A cluster of the test's own."""
    with available(RedisCluster()) as cluster:
        yield cluster


@pytest.fixture(params=["redis", "cluster", "jetstream"])
def job_server(request: pytest.FixtureRequest) -> LogServer:
    """A server of the test's own that keeps jobs, or a cluster of them."""
    if request.param == "cluster":
        return RedisClusterLogServer(cast("RedisCluster", request.getfixturevalue("redis_cluster")))
    server = cast("OwnBroker", request.getfixturevalue(f"{request.param}_server"))
    return RedisLogServer(server) if request.param == "redis" else JetStreamServer(server)
