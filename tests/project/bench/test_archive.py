"""What was measured comes back as it was kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.archive import load, save
from bench.page import page
from tests.project.bench.findings import measured


def test_kept_findings_make_the_same_page(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "figures.json"
    save(file, {"throughput": measured()})
    kept = load(file)
    assert page(list(kept.values())) == page([measured()])
    before, after = measured().findings, kept["throughput"].findings
    assert after.raw == before.raw
    assert [dict(plot.series) for plot in after.plots] != []
    for plot, was in zip(after.plots, before.plots, strict=True):
        assert {name: [tuple(point) for point in points] for name, points in plot.series.items()} == was.series
    save(file, kept)
    assert load(file) == kept


def test_nothing_kept_is_nothing(tmp_path: Path) -> None:
    assert load(tmp_path / "figures.json") == {}


def test_what_cannot_be_kept_leaves_what_was(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    save(file, {"throughput": measured()})
    kept = file.read_bytes()
    with pytest.raises(ValueError, match="JSON compliant"):
        save(file, {"throughput": measured(seconds=float("nan"))})
    assert file.read_bytes() == kept
