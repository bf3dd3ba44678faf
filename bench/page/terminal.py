"""Findings on a terminal: `show`, and rows as text."""

from __future__ import annotations

from collections.abc import Sequence

from bench.findings import Findings, Goal
from bench.spreads import shown

__all__ = ["show", "text_table"]


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


def show(title: str, findings: Findings) -> None:
    """Print findings for people."""
    print(f"{title}\n\n{text_table(findings.columns, findings.rows)}")
    if findings.goals:
        print(f"\n{text_table(('goal', 'wanted', 'found', ''), [_goal(goal) for goal in findings.goals])}")
    print("\nOnly ratios within one run mean anything: figures differ by machine and by minute.")


def _goal(goal: Goal) -> tuple[str, str, str, str]:
    found = shown((goal.found, *(goal.spread or (goal.found, goal.found))))
    sign = ">=" if goal.at_least else "<="
    return goal.what, f"{sign} {goal.wanted:g} {goal.unit}", found, "reached" if goal.reached else "MISSED"
