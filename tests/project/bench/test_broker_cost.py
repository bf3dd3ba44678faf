"""The benchmark of what the broker pays still runs. What it costs, is nothing for a test."""

from __future__ import annotations

import json
from pathlib import Path

from backplane_testservers import Broker

from tests.project.bench.running import bench


# The fixtures say what to do where there is no broker; the benchmark starts its own.
async def test_events_subscriptions_and_beats_are_measured(
    shared_redis: Broker, shared_nats: Broker, tmp_path: Path
) -> None:
    file = tmp_path / "figures.json"
    code, out, _ = await bench("broker_cost.py", "--quick", "--json", str(file))
    assert code == 0
    figures = json.loads(file.read_text())
    assert list(figures) == ["redis", "nats"]
    for kind, found in figures.items():
        assert f"\n{kind}: a pod per beat of another " in out
        assert found["beat_us"] > 0
        heard, _, _ = found["idle, probe_interval_s=0.5"]["4"]
        assert heard > 0
        assert all(len(times) == 1 for way in ("busy", "one by one") for times in found[way].values())
