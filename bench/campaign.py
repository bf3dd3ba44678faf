"""Measurements one after the other: `run` keeps what is done, whatever becomes of the next one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, Protocol

from bench.archive import Measured
from bench.display import Display
from bench.findings import Findings, Progress

__all__ = ["FAILED", "INTERRUPTED", "Measure", "run"]

FAILED: Final = 1
INTERRUPTED: Final = 130


class Measure(Protocol):
    """What each module of a measurement has under the name `measure`."""

    def __call__(self, progress: Progress, *, quick: bool) -> Findings:
        """Measure, and tell of each step; quick: a short run will do."""
        ...


def run(
    measures: Mapping[str, Measure],
    measured: dict[str, Measured],
    *,
    quick: bool,
    machine: Mapping[str, str],
    display: Display,
    keep: Callable[[], None],
) -> int:
    """Measure all of these; return the exit code of it all.

    Args:
        measures: By name.
        measured: What was measured before; gets the new ones, in place of older ones of their name.
        quick: Whether a short run will do.
        machine: What it runs on.
        display: Told of all that happens.
        keep: Called after each that is done.
    """
    code = 0
    for name, measure in measures.items():
        display.begin(name)
        begun = time.monotonic()
        try:
            found = measure(display.tell, quick=quick)
        except KeyboardInterrupt:
            display.end("interrupted; what was done before is kept", "yellow")
            return INTERRUPTED
        except Exception as error:  # noqa: BLE001 -- the others are worth having
            display.end(f"failed: {type(error).__name__}: {error}", "red")
            code = FAILED
            continue
        measured[name] = Measured(
            findings=found,
            at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            seconds=round(time.monotonic() - begun, 1),
            quick=quick,
            machine=machine,
        )
        keep()
        display.end(_summary(found))
    return code


def _summary(found: Findings) -> str:
    if not found.goals:
        return "done"
    return f"{sum([goal.reached for goal in found.goals])} of {len(found.goals)} goals reached"
