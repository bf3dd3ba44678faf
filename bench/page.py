"""The page that readers see: all measurements as one text of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from bench.archive import Measured
from bench.findings import Goal

__all__ = ["FIGURES", "page", "plots_of"]

FIGURES: Final = "benchmarks"
"""The folder beside the page that holds plots and figures."""

_TOP: Final = """\
# Benchmarks

<!-- Written by bench/all.py: run it again instead of editing this. -->

What Backplane costs, beside the bare clients and other libraries at the same work. Only ratios within one run mean
anything: rates differ by machine and by minute. So whatever is compared took turns in one run, round after round, and
each figure is the median of its rounds, with the least and the most beside it.
"""
_QUICK: Final = "**From a short run, which shows that all works; its figures mean little.**"
_REPRODUCE: Final = """\
## Measure it yourself

```console
$ uv run --group bench bench/all.py
$ uv run --group bench bench/all.py --only throughput
$ uv run --group bench bench/all.py --quick
```

The command starts its own Redis and NATS, on ports of their own, and writes this page, its plots and
[all figures](benchmarks/figures.json). With `--only` it measures some anew and keeps the others; `--quick` takes a few
minutes and writes into `build/benchmarks`. Close whatever else wants the processor.
"""


def page(measured: Sequence[Measured]) -> str:
    """Return the page of these, in this order."""
    parts = [_TOP]
    if measured:
        newest = max(measured, key=lambda one: one.at)
        parts += [_machine(newest.machine), _goals(measured)]
        parts += [_section(one, newest.machine) for one in measured]
    return "\n".join([*filter(None, parts), _REPRODUCE])


def plots_of(measured: Iterable[Measured]) -> list[str]:
    """Return the names of the files that the page shows."""
    return [f"{plot.key}.svg" for one in measured for plot in one.findings.plots]


def _machine(machine: Mapping[str, str]) -> str:
    return f"## The machine\n\n{_table(('', ''), [(name, what) for name, what in machine.items()], left=2)}"


def _goals(measured: Sequence[Measured]) -> str:
    goals = [goal for one in measured for goal in one.findings.goals]
    if not goals:
        return ""
    reached = sum([goal.reached for goal in goals])
    rows = [_goal(goal) for goal in goals]
    table = _table(("goal", "wanted", "measured", "least to most", "reached"), rows)
    return f"## Goals\n\n{reached} of {len(goals)} reached.\n\n{table}"


def _goal(goal: Goal) -> tuple[str, ...]:
    edges = "" if goal.spread is None else " to ".join([_figure(value) for value in goal.spread])
    return (
        goal.what,
        f"{'≥' if goal.at_least else '≤'} {_figure(goal.wanted)} {goal.unit}",
        f"{_figure(goal.found)} {goal.unit}",
        edges,
        "yes" if goal.reached else "**no**",
    )


def _figure(value: float) -> str:
    """Return three digits: more is noise."""
    for limit, digits in ((10, 2), (100, 1)):
        if abs(value) < limit:
            return f"{value:.{digits}f}".rstrip("0").rstrip(".")
    return f"{value:,.0f}"


def _section(one: Measured, newest: Mapping[str, str]) -> str:
    found = one.findings
    parts = [f"## {found.title}", found.method]
    parts += [f"![{plot.title}]({FIGURES}/{plot.key}.svg)" for plot in found.plots]
    parts += [_table(found.columns, found.rows).rstrip()]
    parts += ["\n".join([f"- {_indented(note)}" for note in found.notes])] if found.notes else []
    if one.quick:
        parts.append(_QUICK)
    parts.append(f"Measured {one.at}, in {one.seconds:,.0f} s{_elsewhere(one.machine, newest)}.")
    return "\n\n".join(parts) + "\n"


def _indented(note: str) -> str:
    return note.strip().replace("\n", "\n  ")


def _elsewhere(machine: Mapping[str, str], newest: Mapping[str, str]) -> str:
    """Tell in what this machine differs from the one at the top of the page."""
    others = [f"{name}: {what}" for name, what in machine.items() if newest.get(name) != what]
    return f", with other versions or on another machine ({'; '.join(others)})" if others else ""


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return a table; all columns but the first ones are figures, to the right."""
    rules = ["---" if number < left else "---:" for number in range(len(columns))]
    lines = [columns, rules, *[[cell.replace("|", r"\|") for cell in row] for row in rows]]
    return "".join([f"| {' | '.join(line)} |\n" for line in lines])
