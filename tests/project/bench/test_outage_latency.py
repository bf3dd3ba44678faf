"""The benchmark of outages still runs and reports each condition. How fast it is, is nothing for a test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from backplane_testservers import OwnBroker

from tests.project.bench.running import bench


# The fixture says what to do where there is no broker; the benchmark starts its own.
async def test_all_conditions_are_measured(broker: OwnBroker, tmp_path: Path) -> None:
    kind, file = broker.kind, tmp_path / "figures.json"
    code, out, err = await bench(
        "outage_latency.py", "--events", "100", "--rounds", "1", "--bus", kind, "--json", str(file)
    )
    assert (code, err) == (0, "")
    figures = json.loads(file.read_text())[kind]
    assert list(figures) == ["healthy", "dead", "frozen", "black hole"]
    for condition, row in figures.items():
        assert 0 < row["p50"] <= row["p99"] <= row["max"]
        assert f"\n{condition} " in out


@pytest.mark.parametrize("arguments", [("--events", "0"), ("--rounds", "0"), ("--rate", "0"), ("--bus", "kafka")])
async def test_wrong_arguments_are_refused(arguments: tuple[str, str]) -> None:
    code, out, err = await bench("outage_latency.py", *arguments)
    assert (code, out) == (2, "")
    assert arguments[0] in err
