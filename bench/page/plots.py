"""Draws a `Plot` as SVG, readable on light and on dark pages, and the same bytes for the same figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from bench.findings import Plot
from bench.libraries import library

__all__ = ["draw"]

_TEXT: Final = "#808080"
"""On white and on near black alike."""
_LINES: Final = "#80808050"
_OURS: Final = "#4c8dd6"
_OTHERS: Final = "#98989a"
_COLOURS: Final = (
    "#4c8dd6",
    "#e08a3c",
    "#4fa66b",
    "#a877c9",
    "#d65f5f",
    "#3fb0ac",
    "#b89f35",
    "#c96f9b",
    "#8a7560",
    "#98989a",
)
_STYLES: Final = ("-", "--", ":", "-.")
_STYLE: Final[dict[str, Any]] = {
    "svg.fonttype": "none",  # text stays text, in the reader's font
    "svg.hashsalt": "backplane",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _TEXT,
    "axes.labelcolor": _TEXT,
    "axes.edgecolor": _LINES,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": _LINES,
    "grid.linewidth": 0.6,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.labelcolor": _TEXT,
}
_WIDTH: Final = 8.0
_BAR: Final = 0.32
_MANY: Final = 8
"""More lines than that have their legend to the right."""


def draw(plot: Plot, file: Path) -> None:
    """Write the drawing.

    Raises:
        LibraryMissing: The dependency group `bench` is not installed.
    """
    matplotlib = library("matplotlib")
    matplotlib.use("svg")
    pyplot = library("matplotlib.pyplot")
    with pyplot.rc_context(_STYLE):
        figure, axes = pyplot.subplots(figsize=(_WIDTH, _height(plot)), layout="constrained")
        try:
            (_bars if plot.kind == "bars" else _lines)(plot, axes)
            axes.set_title(plot.title)
            axes.set_xlabel(plot.x)
            axes.set_ylabel(plot.y)
            file.parent.mkdir(parents=True, exist_ok=True)
            # No date and no version: a new drawing of the same figures is no change.
            figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        finally:
            pyplot.close(figure)


def _height(plot: Plot) -> float:
    return 1.1 + _BAR * len(plot.series) if plot.kind == "bars" else 4.5


def _is_ours(name: str) -> bool:
    return name.lower().startswith("backplane")


def _bars(plot: Plot, axes: Any) -> None:  # noqa: ANN401 -- matplotlib's
    names = list(plot.series)
    values = [points[0][1] for points in plot.series.values()]
    bars = axes.barh(names, values, color=[_OURS if _is_ours(name) else _OTHERS for name in names], height=0.7)
    axes.bar_label(bars, labels=[f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in values], padding=4)  # noqa: PLR2004 -- whole numbers from there on
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)


def _lines(plot: Plot, axes: Any) -> None:  # noqa: ANN401 -- matplotlib's
    for number, (name, points) in enumerate(plot.series.items()):
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            label=name,
            color=_COLOURS[number % len(_COLOURS)],
            linestyle=_STYLES[number // len(_COLOURS) % len(_STYLES)],
            linewidth=2.0 if _is_ours(name) else 1.3,
            marker="o" if len(points) <= 2 * _MANY else "",
            markersize=3.5,
        )
    if "x" in plot.log:
        axes.set_xscale("log")
    if "y" in plot.log:
        axes.set_yscale("log")
    axes.grid()
    if len(plot.series) > _MANY:
        axes.figure.legend(loc="outside right upper")
    else:
        axes.legend()
