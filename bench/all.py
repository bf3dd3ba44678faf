"""The one command: measures everything and writes docs/benchmarks.md, its plots and its figures.

    uv run --group bench bench/all.py [--quick] [--only throughput,latency] [--render] [--into FOLDER]

Starts its own brokers. What is done is kept: an interrupted run has lost only the measurement that it was at, and with
`--only` the others stay as they were.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final

# Run as a script, this folder is on the path and the one above it is not.
sys.path.insert(0, str(Path(__file__).parents[1]))

from backplane_testservers import BrokerUnavailable

from bench.archive import Measured, load, save
from bench.campaign import Measure, run
from bench.display import Display, duration
from bench.findings import Findings, Progress
from bench.libraries import LibraryMissing, library, need_peers
from bench.machine import describe
from bench.page import FIGURES, page, plots_of
from bench.plots import draw

ROOT: Final = Path(__file__).parents[1]
MEASURES: Final[Mapping[str, float]] = {
    "throughput": 420,
    "latency": 240,
    "fanout": 90,
    "fleet": 240,
    "memory": 60,
    "resubscribe": 90,
    "breakdown": 60,
    "broker_cost": 60,
}
"""Modules of this folder, each with a `measure(progress, *, quick)`, in the page's order; and the seconds that each may
take, until it has been measured how many it does."""
_QUICK_SHARE: Final = 0.15


def _arguments(there: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few minutes, to see that all works; not into docs/")
    parser.add_argument("--only", metavar="NAME[,NAME]", help="among " + ", ".join(there))
    parser.add_argument("--render", action="store_true", help="measure nothing: write the page from its figures")
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="default: docs, with --quick build/benchmarks")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",") if arguments.only else list(there)
    if unknown := [name for name in chosen if name not in there]:
        parser.error(f"--only: there is no {', '.join(unknown)}; there are {', '.join(there)}")
    arguments.only = [name for name in there if name in chosen]
    if arguments.into is None:
        arguments.into = ROOT / ("build/benchmarks" if arguments.quick else "docs")
    return arguments


def _write(into: Path, measured: Mapping[str, Measured]) -> None:
    """Write figures, page and plots, and remove plots that are no more."""
    save(into / FIGURES / "figures.json", measured)
    shown = [measured[name] for name in MEASURES if name in measured]
    for one in shown:
        for plot in one.findings.plots:
            draw(plot, into / FIGURES / f"{plot.key}.svg")
    for file in (into / FIGURES).glob("*.svg"):
        if file.name not in plots_of(shown):
            file.unlink()
    (into / "benchmarks.md").write_text(page(shown), "utf-8")


def _measure_all(arguments: argparse.Namespace) -> int:
    """Measure one after the other; return the exit code."""
    measured = load(arguments.into / FIGURES / "figures.json")
    return run(
        {name: partial(_measure, name) for name in arguments.only},
        measured,
        quick=arguments.quick,
        machine=describe(),
        display=Display([_estimate(name, measured, quick=arguments.quick) for name in arguments.only]),
        keep=lambda: _write(arguments.into, measured),
    )


def _measure(name: str, progress: Progress, *, quick: bool) -> Findings:
    measure: Measure = import_module(f"bench.{name}").measure
    return measure(progress, quick=quick)


def _estimate(name: str, measured: Mapping[str, Measured], *, quick: bool) -> float:
    if name in measured and measured[name].quick == quick:
        return measured[name].seconds
    return MEASURES[name] * (_QUICK_SHARE if quick else 1)


def _main() -> None:
    there = [name for name in MEASURES if find_spec(f"bench.{name}") is not None]
    arguments = _arguments(there)
    begun = time.monotonic()
    try:
        library("matplotlib")
        need_peers()
        if arguments.render:
            _write(arguments.into, load(arguments.into / FIGURES / "figures.json"))
            code = 0
        else:
            code = _measure_all(arguments)
    except (BrokerUnavailable, LibraryMissing) as error:
        sys.exit(str(error))
    file = arguments.into / "benchmarks.md"
    took = duration(time.monotonic() - begun)
    print(f"{file} holds what is measured, after {took}" if file.exists() else f"nothing is measured, after {took}")
    sys.exit(code)


if __name__ == "__main__":
    _main()
