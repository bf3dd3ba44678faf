"""The benchmark of a pod's interest still runs and counts what it says. How fast it is, is nothing for a test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from backplane_testservers import OwnBroker

from tests.project.bench.running import bench

TARGETS = 800


# The fixture says what to do where there is no broker; the benchmark starts its own.
async def test_all_is_measured_and_counted(broker: OwnBroker, tmp_path: Path) -> None:
    kind, file = broker.kind, tmp_path / "figures.json"
    code, out, err = await bench(
        "resubscribe.py", "--targets", str(TARGETS), "--rounds", "1", "--bus", kind, "--json", str(file)
    )
    assert (code, err) == (0, "")
    figures = json.loads(file.read_text())[kind]
    assert out.count(f"{TARGETS} targets heard again") == 1
    (cycle,) = figures["reconnect"]["rounds"]
    assert (cycle["commands"], cycle["channels"]) == (2, TARGETS + 1), "in batches of 512, with the shared channel"
    assert cycle["seconds"] > 0
    assert figures["at_once"]["commands"] == 2
    assert figures["churn"]["edges"] == 2 * TARGETS
    assert 0 < figures["memory"]["bytes"] < 2_048
    assert figures["reload"]["channels_per_reload"] == 2, "the new id and the old one"


@pytest.mark.parametrize("arguments", [("--targets", "0"), ("--rounds", "0"), ("--bus", "kafka")])
async def test_wrong_arguments_are_refused(arguments: tuple[str, str]) -> None:
    code, out, err = await bench("resubscribe.py", *arguments)
    assert (code, out) == (2, "")
    assert arguments[0] in err
