"""The one command of the benchmarks: measures, writes docs/benchmarks.md with its plots, and README's table.

    uv run --group bench bench/run.py [--quick] [--only throughput,latency] [--resume] [--render] [--into FOLDER]
    uv run --group bench bench/run.py throughput --bus redis --rounds 3 [--json FILE]

The first form writes the page and README's table; what is done is kept: an interrupted run has lost only the
measurement that it was at, and with --only the others stay as they were. The second makes one measurement and prints
it; `NAME --help` has its options. Either starts its own brokers.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

# Run as a script, this folder is on the path and the one above it is not.
sys.path.insert(0, str(Path(__file__).parents[1]))

import cattrs
from backplane_testservers import BrokerUnavailable

from bench.catalogue import MEASURES
from bench.libraries import LibraryMissing, library, need_peers
from bench.measure import Measure
from bench.page.archive import Measured, from_json, load, save
from bench.page.display import Display, duration
from bench.page.machine import LOCAL_CHANGES, commit, describe
from bench.page.markdown import FIGURES, page, plots_of
from bench.page.plots import draw
from bench.page.readme import how_fast
from bench.page.section import sections
from bench.page.terminal import show
from bench.processes import ProcessFailed
from bench.session import INTERRUPTED, measure_one, run

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = ROOT / "docs"
_README: Final = ROOT / "README.md"


def _page_arguments(words: Sequence[str]) -> argparse.Namespace:
    width = max(map(len, MEASURES))
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="measurements:\n"
        + "\n".join([f"  {name:{width}}  {duration(one.usual_s)}  {one.about()}" for name, one in MEASURES.items()]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a few minutes, to see that all works; not into docs/")
    parser.add_argument("--only", metavar="NAME[,NAME]", help="which measurements; the others keep their figures")
    parser.add_argument("--resume", action="store_true", help="only what has no figures of this commit yet")
    parser.add_argument("--render", action="store_true", help="measure nothing: write the page from its figures")
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="default: docs, with --quick build/benchmarks")
    arguments = parser.parse_args(words)
    chosen = arguments.only.split(",") if arguments.only else list(MEASURES)
    if unknown := [name for name in chosen if name not in MEASURES]:
        parser.error(f"--only: there is no {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    arguments.only = [one for name, one in MEASURES.items() if name in chosen]
    if arguments.into is None:
        arguments.into = ROOT / "build/benchmarks" if arguments.quick else DOCS
    return arguments


def _write_page(arguments: argparse.Namespace) -> int:
    """Measure what is to be measured and write the page; return the exit code."""
    begun, into = time.monotonic(), arguments.into
    library("matplotlib")
    measured = load(into / FIGURES / "figures.json")
    code = 0
    if arguments.render:
        _write(into, measured)
    else:
        need_peers()
        here, quick = commit(), arguments.quick
        chosen = [one for one in arguments.only if not (arguments.resume and _is_done(measured.get(one.name), here))]
        code = run(
            [one.sized(quick=quick) for one in chosen],
            measured,
            quick=quick,
            commit=here,
            machine=describe(),
            display=Display(len(chosen)),
            keep=lambda: _write(into, measured),
        )
    file = into / "benchmarks.md"
    took = duration(time.monotonic() - begun)
    print(f"{file} holds what is measured, after {took}" if file.exists() else f"nothing is measured, after {took}")
    return code


def _is_done(one: Measured | None, commit: str) -> bool:
    return one is not None and one.commit == commit and not one.quick and LOCAL_CHANGES not in commit


def _write(into: Path, measured: Mapping[str, Measured]) -> None:
    """Write figures, page and plots, and remove plots that are not on the page."""
    save(into / FIGURES / "figures.json", measured)
    shown = sections(MEASURES.values(), measured)
    for section in shown:
        for plot in section.findings.plots:
            draw(plot, into / FIGURES / f"{plot.key}.svg")
    for file in (into / FIGURES).glob("*.svg"):
        if file.name not in plots_of(shown):
            file.unlink()
    (into / "benchmarks.md").write_text(page(shown), "utf-8")
    if into == DOCS:
        # README says what was measured without other work on the machine.
        goals = [goal for section in shown if not section.measured.busy for goal in section.findings.goals]
        _README.write_text(how_fast(_README.read_text("utf-8"), goals), "utf-8")


def _print_one(measure: type[Measure[Any]], words: Sequence[str]) -> int:
    """Make one measurement and print it; return the exit code."""
    parser = argparse.ArgumentParser(prog=f"run.py {measure.name}", description=measure.about())
    measure.add_options(parser)
    parser.add_argument("--quick", action="store_true", help="a short run, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too, and what it ran on")
    arguments = parser.parse_args(words)
    sized = measure.of(arguments, quick=arguments.quick)
    here, machine = commit(), describe()
    display = Display(1)
    display.begin(measure.name)
    try:
        one = measure_one(sized, display, quick=arguments.quick, commit=here, machine=machine)
    except KeyboardInterrupt:
        return INTERRUPTED
    display.end("done")
    where = f"{machine['processor']}, {machine['Python']}; others took {one.others:.0%} of the processors"
    show(f"{measure.title}, {here}: {where}", measure.findings(from_json(one.figures, measure.figures)))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(cattrs.unstructure(one), indent=1) + "\n")
    return 0


def _main(words: Sequence[str]) -> int:
    logging.getLogger("backplane").setLevel(logging.CRITICAL)  # it would report each outage that is measured
    try:
        if words and words[0] in MEASURES:
            return _print_one(MEASURES[words[0]], words[1:])
        return _write_page(_page_arguments(words))
    except (BrokerUnavailable, LibraryMissing, ProcessFailed) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
