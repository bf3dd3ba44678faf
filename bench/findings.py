"""What a measurement comes to: `Findings`, of which one command makes a page with tables and plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from attrs import frozen

from bench.spreads import Spread

__all__ = ["Findings", "Goal", "Plot"]


@frozen(kw_only=True)
class Goal:
    """One figure that we set out to reach, and what was measured.

    Args:
        what: In words: "Redis, interest, against the best other library".
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

    @classmethod
    def least(cls, what: str, wanted: float, found: Spread, unit: str = "x") -> Goal:
        """Return the goal that the median is at least that."""
        return cls(what=what, wanted=wanted, found=found[0], spread=found[1:], unit=unit)

    @classmethod
    def most(cls, what: str, wanted: float, found: Spread, unit: str = "x") -> Goal:
        """Return the goal that the median is at most that."""
        return cls(what=what, wanted=wanted, found=found[0], spread=found[1:], at_least=False, unit=unit)

    @property
    def reached(self) -> bool:
        """Whether it is."""
        return self.found >= self.wanted if self.at_least else self.found <= self.wanted


@frozen(kw_only=True)
class Plot:
    """One drawing.

    Args:
        key: Names its file: `throughput-redis`.
        kind: "bars": one horizontal bar per series, of one point; "lines": a line per series.
        title: Above it.
        x: Name of the horizontal axis, with its unit; of bars: what their length means.
        y: Name of the vertical axis, with its unit; bars need none.
        series: Points by name, in the order of the legend.
        log: The axes to scale by logarithm: "", "x", "y", "xy".
    """

    key: str
    kind: Literal["bars", "lines"]
    title: str
    x: str
    y: str
    series: Mapping[str, Sequence[tuple[float | str, float]]]
    log: Literal["", "x", "y", "xy"] = ""

    @classmethod
    def bars(cls, key: str, title: str, x: str, lengths: Mapping[str, float]) -> Plot:
        """Return bars of these lengths."""
        series = {name: [(name, length)] for name, length in lengths.items()}
        return cls(key=key, kind="bars", title=title, x=x, y="", series=series)


@frozen(kw_only=True)
class Findings:
    """One measurement's results, for people.

    Args:
        method: What was done, in a paragraph of Markdown: who does what, what counts, why it is fair.
        columns: Of the table.
        rows: Of the table, as they are printed; the first cell names the row.
        goals: What was to be reached.
        plots: Drawings.
        notes: Under the table: what explains a figure, or limits it; Markdown.
    """

    method: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    goals: Sequence[Goal] = ()
    plots: Sequence[Plot] = ()
    notes: Sequence[str] = ()
