"""The metrics of a pod, read as Prometheus reads them: all series are there from the start."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from attrs import asdict, fields
from backplane_asgi import metrics_endpoint
from backplane_asgi.metrics import PLAIN
from backplane_core import BaseBackplane, Stats, Target, connect
from prometheus_client.parser import text_string_to_metric_families

USER = Target.user("u1")

ELSEWHERE = {
    "state",
    "dropped",
    "gaps",
    "decode_errors",
    "signature_errors",
}
"""Fields of `Stats` that stand in a family with labels."""

NOT_SHOWN = {"pod_name", "echoed", "beats", "foreign", "sink_refusals", "observer_errors", "unknown_connections"}
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
