"""What a measurement comes to: `Findings`, which one command gathers into a page with tables and plots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from attrs import field, frozen

__all__ = ["Findings", "Goal", "Plot", "Progress"]

Progress: TypeAlias = Callable[[str], None]
"""Shows one line on what is measured now; the next call overwrites it."""


@frozen(kw_only=True)
class Goal:
    """One figure that we set out to reach, and what was measured.

    Args:
        what: In words: "Redis, interest, against the best Python peer".
        wanted: The limit: 25.0.
        found: The median.
        spread: The least and the most.
        at_least: Whether `found` should be at least `wanted`, or at most.
        unit: Behind both: "x", "µs", "KiB".
    """

    what: str
    wanted: float
    found: float
    spread: tuple[float, float] | None = None
    at_least: bool = True
    unit: str = "x"

    @property
    def reached(self) -> bool:
        """Whether it is."""
        return self.found >= self.wanted if self.at_least else self.found <= self.wanted


@frozen(kw_only=True)
class Plot:
    """One drawing.

    Args:
        key: Names its file: `throughput-redis`.
        kind: "bars": one horizontal bar per series, of one point; "stacked": the same of parts, one series per part,
            with the bar's name as x; "lines": a line per series.
        title: Above it.
        x: Name of the horizontal axis, with its unit; of bars: what their length tells.
        y: Name of the vertical axis, likewise; bars need none.
        series: Points by name, in the order of the legend.
        log: The axes to scale by logarithm: "", "x", "y", "xy".
    """

    key: str
    kind: Literal["bars", "stacked", "lines"]
    title: str
    x: str
    y: str
    series: Mapping[str, Sequence[tuple[float | str, float]]]
    log: Literal["", "x", "y", "xy"] = ""


@frozen(kw_only=True)
class Findings:
    """One measurement's results.

    Args:
        key: Names it: `throughput`.
        title: The heading.
        method: What was done, in a paragraph of Markdown: who does what, what counts, why it is fair.
        columns: Of the table.
        rows: Of the table, as they are printed; the first cell names the row.
        goals: What was to be reached.
        plots: Drawings.
        notes: Under the table: what explains a figure, or limits it; Markdown.
        raw: All figures, fit for JSON.
    """

    key: str
    title: str
    method: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    goals: Sequence[Goal] = ()
    plots: Sequence[Plot] = ()
    notes: Sequence[str] = ()
    raw: Mapping[str, Any] = field(factory=dict[str, Any])
