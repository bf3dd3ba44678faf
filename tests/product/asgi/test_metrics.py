"""The metrics of a pod, read as Prometheus reads them: all series are there from the start."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import time
from collections.abc import Mapping, MutableMapping
from typing import Any

import pytest
from attrs import asdict, fields
from backplane_asgi import metrics_endpoint
from backplane_asgi._sockets import loop_lag
from backplane_asgi._sockets.hub import hub_of
from backplane_asgi._sockets.loop_lag import LoopLag
from backplane_asgi.metrics import PLAIN
from backplane_core import BaseBackplane, Stats, Target, connect
from prometheus_client.parser import text_string_to_metric_families

from tests.support.waiting import until

USER = Target.user("u1")

ELSEWHERE = {
    "state",
    "dropped",
    "gaps",
    "decode_errors",
    "signature_errors",
    "round_trips",
    "round_trip_total_s",
}
"""Fields of `Stats` that stand in a family of several series."""

NOT_SHOWN = {
    "pod_name",
    "echoed",
    "beats",
    "foreign",
    "sink_refusals",
    "observer_errors",
    "unknown_connections",
    "round_trip_s",
}
"""Fields that nobody should be woken by: they explain another one."""


async def scrape(backplane: BaseBackplane, method: str = "GET") -> str:
    sent: list[Mapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request"}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    await metrics_endpoint(backplane)({"type": "http", "method": method, "path": "/", "headers": []}, receive, send)
    assert sent[0]["status"] == 200
    return b"".join(message.get("body", b"") for message in sent).decode()


def series(text: str) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    return {
        (sample.name, frozenset(sample.labels.items()))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_every_series_is_there_from_the_start_with_help_and_type() -> None:
    async with connect() as backplane, backplane.connection("c1", USER):
        before = await scrape(backplane)
        for family in text_string_to_metric_families(before):
            assert family.documentation, family.name
            assert family.type != "unknown", family.name
            assert family.name.startswith("backplane_")
        await backplane.publish(USER, "x")
        backplane._reporter.report_dropped("refused", "backplane", 1)
        assert series(await scrape(backplane)) == series(before)


async def test_every_counter_of_a_pod_is_shown() -> None:
    shown = {source for _, source, _, _ in PLAIN}
    assert {field.name for field in fields(Stats)} == shown | ELSEWHERE | NOT_SHOWN


async def test_the_values_are_those_of_stats() -> None:
    async with connect() as backplane, backplane.connection("c1", USER):
        for _ in range(3):
            await backplane.publish(USER, "x")
        stats = asdict(backplane.stats(), recurse=False)
        values = {
            sample.name: sample.value
            for family in text_string_to_metric_families(await scrape(backplane))
            for sample in family.samples
            if not sample.labels
        }
        assert values["backplane_published_events_total"] == 3
        for name, source, _, _ in PLAIN:
            assert values[f"backplane_{name}"] == stats[source], name


async def test_a_loop_that_is_held_is_seen_once_somebody_has_asked() -> None:
    async with connect() as backplane:
        lag = hub_of(backplane).lag
        assert not lag.is_running, "it costs nothing where nobody asks"
        assert "backplane_gateway_loop_lag_seconds_count 0\n" in await scrape(backplane)
        assert lag.is_running
        time.sleep(0.6)  # noqa: ASYNC251 -- the fault
        await until(lambda: lag.seen.total_s > 0.2, "the hold is counted")
        lines = (await scrape(backplane)).splitlines()
        buckets = {
            line.rpartition(" ")[0]: int(line.rpartition(" ")[2]) for line in lines if "lag_seconds_bucket" in line
        }
        name = "backplane_gateway_loop_lag_seconds_bucket"
        assert buckets[f'{name}{{le="+Inf"}}'] > buckets[f'{name}{{le="0.25"}}']


async def test_the_loop_is_left_alone_once_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_lag, "TICK_S", 0.01)
    lag = LoopLag(keep_s=0.02)
    lag.ask()
    await until(lambda: not lag.is_running, "its timer is gone")
    count = [*lag.seen.buckets()][-1][1]
    assert count >= 2
    lag.ask()
    assert lag.is_running
    await until(lambda: [*lag.seen.buckets()][-1][1] > count, "it goes on")
    await until(lambda: not lag.is_running, "its timer is gone again")
