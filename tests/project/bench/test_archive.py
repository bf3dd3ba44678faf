"""What was measured comes back as it was kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from bench.page.archive import load, save
from bench.page.section import sections
from tests.project.bench.sections import Speed, measured


def test_kept_figures_make_the_same_findings(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "figures.json"
    save(file, {"speed": measured()})
    assert load(file) == {"speed": measured()}
    assert sections([Speed], load(file)) == sections([Speed], {"speed": measured()})


def test_nothing_kept_is_nothing(tmp_path: Path) -> None:
    assert load(tmp_path / "figures.json") == {}


def test_what_cannot_be_kept_leaves_what_was(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    save(file, {"speed": measured()})
    kept = file.read_bytes()
    with pytest.raises(ValueError, match="JSON compliant"):
        save(file, {"speed": measured(seconds=float("nan"))})
    assert file.read_bytes() == kept


def test_figures_of_another_layout_are_left_out_and_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert sections([Speed], {"speed": evolve(measured(), figures={"rate": 3})}) == []
    assert "left out: the figures of speed" in capsys.readouterr().err
