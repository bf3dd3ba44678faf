"""From measured numbers to what people read: percentiles, spreads, a table of text, and findings on a terminal."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import cattrs
from backplane_testservers import BrokerUnavailable

from bench.findings import Findings, Goal, Progress
from bench.players import PlayerFailed

__all__ = ["percentile", "print_progress", "ratios", "show", "shown", "spread", "tell", "text_table", "write_json"]


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value that this share of all values is not above.

    Args:
        ordered: From the least to the most; not empty.
        share: From 0 to 1.
    """
    return ordered[max(0, min(len(ordered) - 1, -int(-len(ordered) * share // 1) - 1))]


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median, the least and the most."""
    return median(values), min(values), max(values)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Return the spread of the ratios, round by round: a busy minute slows both sides of one."""
    return spread([one / other for one, other in zip(ours, theirs, strict=True)])


def shown(spread: tuple[float, float, float], digits: int = 2) -> str:
    """Return a spread for a cell: `1.02 (0.98-1.10)`."""
    middle, least, most = (f"{value:,.{digits}f}" for value in spread)
    return middle if least == most else f"{middle} ({least}-{most})"


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows as text, the first column to the left and the others to the right."""
    cells = [columns, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]

    def line(row: Sequence[str]) -> str:
        first, *rest = row
        return "  ".join(
            [first.ljust(widths[0]), *[cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]]
        ).rstrip()

    return "\n".join([line(columns), "-" * (sum(widths) + 2 * (len(widths) - 1)), *map(line, rows)])


def show(findings: Findings) -> None:
    """Print findings for people."""
    print(
        f"{findings.title}. Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    print(f"\n{text_table(findings.columns, findings.rows)}")
    if findings.goals:
        print(f"\n{text_table(('goal', 'wanted', 'found', ''), [_goal(goal) for goal in findings.goals])}")
    for note in findings.notes:
        print(f"\n{note}")


def _goal(goal: Goal) -> tuple[str, str, str, str]:
    found = shown((goal.found, *(goal.spread or (goal.found, goal.found))))
    sign = ">=" if goal.at_least else "<="
    return goal.what, f"{sign} {goal.wanted:g} {goal.unit}", found, "reached" if goal.reached else "MISSED"


def write_json(findings: Findings, file: Path) -> None:
    """Write all of it to a file."""
    file.write_text(json.dumps(cattrs.unstructure(findings), indent=2) + "\n")


def print_progress(text: str) -> None:
    """Show a line on a terminal; nothing where there is none."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def tell(measure: Callable[[Progress], Findings], file: Path | None) -> None:
    """Measure for a person at a terminal: show progress, the findings, or what failed; and write them to a file."""
    try:
        found = measure(print_progress)
    except (BrokerUnavailable, PlayerFailed) as error:
        sys.exit(str(error))
    print_progress("")
    show(found)
    if file is not None:
        write_json(found, file)
