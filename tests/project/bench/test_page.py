"""The page of the benchmarks, made of fixed findings."""

from __future__ import annotations

from bench.page.markdown import page, plots_of
from tests.project.bench.sections import measured, section


def test_goals_say_what_was_wanted_and_whether_it_was_reached() -> None:
    text = page([section()])
    assert "1 of 2 reached." in text
    assert "| the best other library | ≥ 25 x | 37.5 x | 30 to 41.3 | yes |\n" in text
    assert "| processor time | ≤ 8 µs | 9.25 µs |  | **no** |\n" in text


def test_the_page_begins_with_plots_and_says_where_the_goals_that_were_missed_stand() -> None:
    text = page([section()])
    parts = [
        "Of our 2 [goals](#goals), 1 was reached; [what we missed](#what-we-missed).\n",
        "![Bars](benchmarks/bars.svg)\n",
        "## Goals\n",
        "## What we missed\n\n- processor time: 9.25 µs of 8 µs\n",
        "## The machine\n",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


def test_a_measurement_has_its_plots_method_table_and_notes_in_this_order() -> None:
    text = page([section()])
    parts = [
        "## Speed\n\n![Bars](benchmarks/bars.svg)\n",
        "All of them | take turns.\n",
        "|  | events/s |\n| --- | ---: |\n| Redis: backplane | 150,000 |\n| Redis: a\\|b | 4,000 |\n",
        "- One note\n  in two lines.\n- Another.\n",
        "Measured 2026-11-24 12:00 UTC at commit abc, in 62 s, while others took 2% of the processors.\n",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert plots_of([section()]) == ["bars.svg", "lines.svg"]


def test_a_short_run_is_marked_as_one() -> None:
    assert "its figures mean little" in page([section(measured(quick=True))])
    assert "its figures mean little" not in page([section()])


def test_figures_of_a_busy_machine_are_marked_as_such() -> None:
    assert "flatter us" in page([section(measured(others=0.5))])
    assert "flatter us" not in page([section(measured(others=0.05))])


def test_the_machine_is_the_newest_ones_and_others_say_in_what_they_differ() -> None:
    text = page([section(measured(at="2026-11-23 09:00 UTC", python="3.12.1", commit="commit old")), section()])
    assert "| Python | 3.11.7 |\n" in text
    assert text.count("on another machine") == 1
    assert "at commit old, in 62 s, while others took 2% of the processors, with other versions or on" in text
    assert " on another machine (Python: 3.12.1)." in text


def test_nothing_measured_makes_a_page_that_says_how_to() -> None:
    text = page([])
    assert "bench/run.py" in text
    assert "## Goals" not in text
