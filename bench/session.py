"""Measurements one after the other: `run` keeps what is done, whatever becomes of the next one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from bench.measure import Measure
from bench.page.archive import Measured, from_json, to_json
from bench.page.display import Display
from bench.page.machine import others_share

__all__ = ["FAILED", "INTERRUPTED", "measure_one", "run"]

FAILED: Final = 1
INTERRUPTED: Final = 130


def run(
    measures: Sequence[Measure[Any]],
    measured: dict[str, Measured],
    *,
    quick: bool,
    commit: str,
    machine: Mapping[str, str],
    display: Display,
    keep: Callable[[], None],
) -> int:
    """Measure all of these; return the exit code of it all.

    Args:
        measures: In their order.
        measured: What was measured before, by name; gets the new ones, in place of older ones of their name.
        quick: Whether these are short runs.
        commit: What is measured.
        machine: What it runs on.
        display: Shows all that happens.
        keep: Called after each that is done.
    """
    code = 0
    for measure in measures:
        display.begin(measure.name)
        try:
            one = measure_one(measure, display, quick=quick, commit=commit, machine=machine)
        except KeyboardInterrupt:
            display.end("interrupted; what was done before is kept")
            return INTERRUPTED
        except Exception as error:  # noqa: BLE001 -- the others are worth having
            display.end(f"failed: {type(error).__name__}: {error}")
            code = FAILED
            continue
        measured[measure.name] = one
        keep()
        goals = measure.findings(from_json(one.figures, measure.figures)).goals
        display.end(f"{sum([goal.reached for goal in goals])} of {len(goals)} goals reached")
    return code


def measure_one(
    measure: Measure[Any], display: Display, *, quick: bool, commit: str, machine: Mapping[str, str]
) -> Measured:
    """Measure, and return what to keep."""
    others = others_share()
    begun = time.monotonic()
    figures = to_json(measure.measure(display))
    return Measured(
        figures=figures,
        at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=commit,
        seconds=round(time.monotonic() - begun, 1),
        others=round(max(others, others_share()), 3),
        quick=quick,
        machine=machine,
    )
