"""The page that readers see: all measurements as one text of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from bench.findings import Goal
from bench.page.archive import Measured
from bench.page.section import Section

__all__ = ["FIGURES", "figure", "page", "plots_of"]

FIGURES: Final = "benchmarks"
"""The folder next to the page that holds plots and figures."""

_TOP: Final = """\
# Benchmarks

<!-- Written by bench/run.py: run it again instead of editing this. -->

What Backplane costs, and what the bare clients and other libraries cost at the same work. Only ratios within one run
mean anything: rates differ by machine and by minute. So whatever is compared took turns in one run, round after round,
and each figure is the median of its rounds, with the least and the most next to it. Each section says when it was
measured, at which commit, and how busy the machine was.
"""
_QUICK: Final = "**From a short run, which shows that all works; its figures mean little.**"
_BUSY: Final = """\
**The machine was busy with other work: rates are too low, most of all those of subjects that wait for the broker, so
that ratios against them flatter us; processor times are too high. README leaves these figures out.**"""
_REPRODUCE: Final = """\
## Measure it yourself

```console
$ uv run --group bench bench/run.py                           # all, half an hour
$ uv run --group bench bench/run.py --only throughput,latency # some of it
$ uv run --group bench bench/run.py --resume                  # what is missing
$ uv run --group bench bench/run.py throughput --bus redis    # one measure
$ uv run --group bench bench/run.py --quick                   # some minutes
```

The command starts its own Redis and NATS, on ports of their own, and writes this page, its plots and
[all figures](benchmarks/figures.json). An interrupted run keeps what is done. Close everything else that wants the
processor.
"""


def page(sections: Sequence[Section]) -> str:
    """Return the page of these, in this order."""
    parts = [_TOP]
    if sections:
        newest = max([section.measured for section in sections], key=lambda one: one.at)
        goals = [goal for section in sections for goal in section.findings.goals]
        parts += [_reached(goals)]
        parts += [_section(section, newest.machine) for section in sections]
        parts += [_goals(goals), _missed(goals), _machine(newest.machine)]
    return "\n".join([*filter(None, parts), _REPRODUCE])


def plots_of(sections: Iterable[Section]) -> list[str]:
    """Return the names of the files that the page shows."""
    return [f"{plot.key}.svg" for section in sections for plot in section.findings.plots]


def _machine(machine: Mapping[str, str]) -> str:
    return f"## The machine\n\n{_table(('', ''), [(name, what) for name, what in machine.items()], left=2)}"


def _reached(goals: Sequence[Goal]) -> str:
    """Return how many goals were reached, for the top of the page: which were missed stands behind the plots."""
    if not goals:
        return ""
    reached = sum([goal.reached for goal in goals])
    text = f"Of our {len(goals)} [goals](#goals), {reached} {'was' if reached == 1 else 'were'} reached"
    return f"{text}; [what we missed](#what-we-missed).\n" if _missed(goals) else f"{text}.\n"


def _missed(goals: Sequence[Goal]) -> str:
    missed = [goal for goal in goals if not goal.reached]
    if not missed:
        return ""
    lines = [f"- {goal.what}: {figure(goal.found)} {goal.unit} of {figure(goal.wanted)} {goal.unit}" for goal in missed]
    return "## What we missed\n\n" + "\n".join(lines) + "\n"


def _goals(goals: Sequence[Goal]) -> str:
    if not goals:
        return ""
    reached = sum([goal.reached for goal in goals])
    table = _table(("goal", "wanted", "measured", "least to most", "reached"), [_goal(goal) for goal in goals])
    return f"## Goals\n\n{reached} of {len(goals)} reached.\n\n{table}"


def _goal(goal: Goal) -> tuple[str, ...]:
    edges = "" if goal.spread is None else " to ".join([figure(value) for value in goal.spread])
    return (
        goal.what,
        f"{'≥' if goal.at_least else '≤'} {figure(goal.wanted)} {goal.unit}",
        f"{figure(goal.found)} {goal.unit}",
        edges,
        "yes" if goal.reached else "**no**",
    )


def figure(value: float) -> str:
    """Return three digits: more is noise."""
    for limit, digits in ((10, 2), (100, 1)):
        if abs(value) < limit:
            return f"{value:.{digits}f}".rstrip("0").rstrip(".")
    return f"{value:,.0f}"


def _section(section: Section, newest: Mapping[str, str]) -> str:
    found = section.findings
    parts = [f"## {section.title}"]
    parts += [f"![{plot.title}]({FIGURES}/{plot.key}.svg)" for plot in found.plots]
    parts += [found.method]
    parts += [_table(found.columns, found.rows).rstrip()]
    parts += ["\n".join([f"- {_indented(note)}" for note in found.notes])] if found.notes else []
    if section.measured.quick:
        parts.append(_QUICK)
    parts.append(_measured(section.measured, newest))
    return "\n\n".join(parts) + "\n"


def _measured(one: Measured, newest: Mapping[str, str]) -> str:
    others = "" if one.others is None else f", while others took {one.others:.0%} of the processors"
    text = f"Measured {one.at} at {one.commit}, in {one.seconds:,.0f} s{others}{_elsewhere(one.machine, newest)}."
    return f"{text} {_BUSY}" if one.busy else text


def _indented(note: str) -> str:
    return note.strip().replace("\n", "\n  ")


def _elsewhere(machine: Mapping[str, str], newest: Mapping[str, str]) -> str:
    """Return in what this machine differs from the one at the top of the page."""
    others = [f"{name}: {what}" for name, what in machine.items() if newest.get(name) != what]
    return f", with other versions or on another machine ({'; '.join(others)})" if others else ""


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return a table; all columns but the first ones are figures, to the right."""
    rules = ["---" if number < left else "---:" for number in range(len(columns))]
    lines = [columns, rules, *[[cell.replace("|", r"\|") for cell in row] for row in rows]]
    return "".join([f"| {' | '.join(line)} |\n" for line in lines])
