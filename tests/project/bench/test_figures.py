"""From measured numbers to what people read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.figures import percentile, ratios, show, shown, spread, text_table, write_json
from bench.findings import Findings, Goal


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1), (0.01, 1), (0.5, 50), (0.501, 51), (0.99, 99), (0.999, 100), (1.0, 100)]
)
def test_a_percentile_is_the_least_value_that_this_share_is_not_above(share: float, value: float) -> None:
    assert percentile(range(1, 101), share) == value


def test_a_percentile_of_one_value_is_that_value() -> None:
    assert [percentile([7.0], share) for share in (0.0, 0.5, 0.99, 1.0)] == [7.0] * 4


def test_a_spread_is_median_least_and_most() -> None:
    assert spread([3.0, 1.0, 2.0, 9.0, 2.5]) == (2.5, 1.0, 9.0)


def test_ratios_are_taken_round_by_round() -> None:
    # A busy minute made the second round ten times slower for both.
    assert ratios([2.0, 20.0], [1.0, 10.0]) == (2.0, 2.0, 2.0)


def test_a_spread_is_shown_with_its_ends_where_they_differ() -> None:
    assert shown((1.5, 1.25, 2000.0)) == "1.50 (1.25-2,000.00)"
    assert shown((1.5, 1.5, 1.5), 1) == "1.5"


def test_a_table_has_its_first_column_to_the_left_and_the_others_to_the_right() -> None:
    assert text_table(("who", "how many"), [("a long name", "1"), ("b", "22")]).split("\n") == [
        "who          how many",
        "---------------------",
        "a long name         1",
        "b                  22",
    ]


def findings() -> Findings:
    return Findings(
        key="speed",
        title="Speed",
        method="",
        columns=("who", "how fast"),
        rows=[("us", "3")],
        goals=[
            Goal(what="enough", wanted=2, found=3, spread=(2.5, 3.5)),
            Goal(what="too slow", wanted=2, found=1.5, unit="m"),
            Goal(what="too much", wanted=2, found=2.5, at_least=False),
        ],
        notes=["A note."],
        raw={"figures": [3]},
    )


def test_findings_are_shown_with_goals_reached_and_missed(capsys: pytest.CaptureFixture[str]) -> None:
    show(findings())
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "us 3" in lines
    assert "enough >= 2 x 3.00 (2.50-3.50) reached" in lines
    assert "too slow >= 2 m 1.50 MISSED" in lines
    assert "too much <= 2 x 2.50 MISSED" in lines
    assert lines[-1] == "A note."


def test_findings_are_written_whole(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    write_json(findings(), file)
    written = json.loads(file.read_text())
    assert (written["key"], written["raw"], len(written["goals"])) == ("speed", {"figures": [3]}, 3)
