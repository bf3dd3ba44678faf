"""README's table is made of the goals' figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.findings import Goal
from bench.page.readme import how_fast

README = """\
# Backplane
<!-- Written by bench/run.py from docs/benchmarks/figures.json. -->
old
<!-- End of what bench/run.py writes. -->
More.
"""
GOALS = [
    Goal.least("Redis, one by one, broadcast: the best other library (litestar)", 25, (28.44, 20, 30)),
    Goal.least("Redis, one by one, interest, sinks: the best other library (litestar)", 25, (31, 20, 40)),
    Goal.most("Redis, one by one, broadcast: processor time per event, sender", 4, (3.456, 3, 4), "µs"),
    Goal.most("Redis, one by one, broadcast: processor time per event, receiver", 4, (4, 3, 4), "µs"),
    Goal.most("Redis, one by one, interest: processor time per event, receiver", 4, (3, 3, 4), "µs"),
    Goal.most("NATS: longest stall of the loop meanwhile", 50, (9, 3, 10), "ms"),
]


def test_a_row_has_the_least_and_the_most_of_what_was_found() -> None:
    assert (
        how_fast(README, GOALS)
        == """\
# Backplane
<!-- Written by bench/run.py from docs/benchmarks/figures.json. -->

| what | figure | remark |
|---|---|---|
| `await publish(Target.user(id), {…})` one after the other, Redis | \
28.4 to 31 times the fastest other Python library | \
3.46 µs of processor time at the sender, 3 to 4 µs at the receiver |

<!-- End of what bench/run.py writes. -->
More.
"""
    )


def test_it_is_written_the_same_twice() -> None:
    assert how_fast(how_fast(README, GOALS), GOALS) == how_fast(README, GOALS)


def test_readme_has_a_place_for_it() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text("utf-8")
    assert "| what | figure |" in how_fast(readme, GOALS)
    with pytest.raises(ValueError, match="README has no place for the table"):
        how_fast("# Backplane", GOALS)
