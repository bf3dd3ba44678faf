"""`backplane bench` measures what a broker does from here, in a channel of its own."""

from __future__ import annotations

import pytest
from backplane_core import Target, connect
from backplane_server._commands.bench import percentile
from backplane_testservers import Broker

from tests.product.server.commands import backplane
from tests.support.sockets import attach


async def test_latency_and_rate_are_measured_and_nobody_else_hears_it(shared_broker: Broker, channel: str) -> None:
    async with connect(shared_broker.url, channel=channel) as pod:
        socket = await attach(pod, "a", Target.everyone(), Target("backplane_bench", "1"))
        command = ("bench", shared_broker.url, "--seconds", "0.3")
        figures = (await backplane(*command, "--json", channel=channel)).json
        assert 0 < figures["latency_ms"]["p50"] <= figures["latency_ms"]["p99"] <= figures["latency_ms"]["max"]
        assert figures["events_per_s"] > 0
        ended = await backplane(*command, "--bytes", "1000", channel=channel)
        assert ended.code == 0
        assert "events/s of 1000 bytes" in ended.out
        assert ended.err == "", "a bar is for terminals"
        assert socket.stream == []


@pytest.mark.parametrize(("count", "part", "value"), [(1, 99, 1), (100, 50, 50), (100, 99, 99), (100, 100, 100)])
def test_a_percentile_is_a_value_that_was_measured(count: int, part: int, value: int) -> None:
    assert percentile(range(1, count + 1), part) == value


async def test_an_event_without_bytes_is_refused(redis_url: str) -> None:
    ended = await backplane("bench", redis_url, "--bytes", "0")
    assert ended.code == 2
    assert "write 1 to" in ended.err
