"""How soon a pod hears all of its targets again after its link was cut, and how often it asks the broker.

    uv run bench/resubscribe.py [--targets 100000] [--rounds 5] [--bus redis|nats|both] [--json FILE]

One pod under interest routing in a process of its own; a fourth of the targets are connections' own ids, and each
connection listens for gaps. The broker is this command's own.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

# Run as a script, this folder is on the path and the one above it is not.
sys.path.insert(0, str(Path(__file__).parents[1]))

import cattrs
from backplane_testservers import BrokerUnavailable, Kind, open_own_broker

from bench.findings import Findings, Goal, Progress
from bench.subscriber import AT_ONCE, TARGETS_EACH, Job, Work

__all__ = ["measure"]

ROOT: Final = Path(__file__).parents[1]
BUSES: Final[dict[str, tuple[Kind, ...]]] = {"redis": ("redis",), "nats": ("nats",), "both": ("redis", "nats")}
NAMES: Final = {"redis": "Redis", "nats": "NATS"}
TARGETS: Final = 100_000
ROUNDS: Final = 5
WITHIN_S: Final = {"redis": 3.0, "nats": 6.0}
STALL_MS: Final = 50.0
SUBSCRIPTION_KIB: Final = 2.0
TURN_S: Final = 600
"""No work takes so long; a pod that does is stuck."""
COLUMNS: Final = (
    "broker",
    "all heard again, s",
    "processor, s",
    "longest stall, ms",
    "of it processor, ms",
    "round trips",
    "bytes per subscription",
    "10,000 at once: round trips",
    "churn: edges per command",
    "reload: channels asked for",
)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--targets", type=_positive, default=TARGETS)
    parser.add_argument("--rounds", type=_positive, default=ROUNDS)
    parser.add_argument("--bus", choices=BUSES, default="both")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    return parser.parse_args()


def _run(job: Job) -> dict[str, Any]:
    """Let a pod do its work, and return what it says."""
    said = subprocess.run(
        [sys.executable, "-m", "bench.subscriber", json.dumps(cattrs.unstructure(job))],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        timeout=TURN_S,
        check=True,
    )
    figures: dict[str, Any] = json.loads(said.stdout)
    return figures


def _of_bus(kind: Kind, targets: int, rounds: int, progress: Progress) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    sizes: dict[Work, int] = {
        "reconnect": targets,
        "memory": min(targets, 40_000),
        "at_once": min(targets, 10_000),
        "churn": min(targets, 20_000),
        "reload": min(targets, 20_000),
    }
    with open_own_broker(kind) as broker:
        for work, size in sizes.items():
            progress(f"{NAMES[kind]}: {work}, {size:,} targets")
            channel = f"bench:{uuid.uuid4().hex}"
            figures[work] = _run(Job(work=work, url=broker.url, channel=channel, targets=size, rounds=rounds))
    return figures


def _measure(buses: Sequence[Kind], targets: int, rounds: int, progress: Progress) -> Findings:
    rows: list[Sequence[str]] = []
    goals: list[Goal] = []
    raw: dict[str, Any] = {"targets": targets, "rounds": rounds}
    for kind in buses:
        figures = raw[kind] = _of_bus(kind, targets, rounds, progress)
        cycles = figures["reconnect"]["rounds"]
        took, stalls, held, cpu = (
            [cycle[name] for cycle in cycles] for name in ("seconds", "stall_ms", "held_ms", "cpu_seconds")
        )
        kib = figures["memory"]["bytes"] / 1024
        name = NAMES[kind]
        rows.append(
            (
                name,
                f"{median(took):.2f} ({min(took):.2f}-{max(took):.2f})",
                f"{median(cpu):.2f}",
                f"{median(stalls):.0f} ({min(stalls):.0f}-{max(stalls):.0f})",
                f"{median(held):.0f} ({min(held):.0f}-{max(held):.0f})",
                f"{cycles[0]['commands']:,} for {cycles[0]['channels']:,}",
                f"{figures['memory']['bytes']:.0f}",
                f"{figures['at_once']['commands']:,}",
                f"{figures['churn']['edges'] / figures['churn']['commands']:,.0f}",
                f"{figures['reload']['channels_per_reload']:.2f} of {2 * (1 + TARGETS_EACH)}",
            )
        )
        goals += [
            Goal(
                what=f"{name}: {targets:,} targets heard again after a cut",
                wanted=WITHIN_S[kind],
                found=median(took),
                spread=(min(took), max(took)),
                at_least=False,
                unit="s",
            ),
            Goal(
                what=f"{name}: longest stall of the loop meanwhile",
                wanted=STALL_MS,
                found=median(stalls),
                spread=(min(stalls), max(stalls)),
                at_least=False,
                unit="ms",
            ),
            Goal(
                what=f"{name}: memory of one subscription",
                wanted=SUBSCRIPTION_KIB,
                found=kib,
                at_least=False,
                unit="KiB",
            ),
        ]
    return Findings(
        key="resubscribe",
        title="A pod's interest after a reconnect",
        method=(
            f"One pod in a process of its own holds {targets:,} targets under interest routing: a channel for each, "
            f"one in {1 + TARGETS_EACH} of them a connection's own id; each connection has `on_gap`. Its socket is "
            f"shut down under it, {rounds} times; the clock runs from then until the broker has confirmed every "
            "channel on the next link and every connection was told of the gap, the wait before that link included. "
            "A task that asks for its turn each millisecond notes how late it gets it, and how much processor time "
            "the process took meanwhile: other processes hold up the first figure, not the second. Memory is what "
            "`tracemalloc` counts beyond the same connections under broadcast routing. Associations at once come from "
            "as many tasks. "
            f"Churn: {AT_ONCE} tasks attach a connection, associate it with {TARGETS_EACH} targets of its own, and "
            "detach it; an edge is a target gained or lost. Reload: every connection goes, and comes back under a new "
            "id with the same targets a moment later; each would cost the broker all of its channels twice if those "
            "that nobody holds did not linger for a second."
        ),
        columns=COLUMNS,
        rows=rows,
        goals=goals,
        raw=raw,
    )


def measure(progress: Progress, *, quick: bool) -> Findings:
    """Measure both brokers; `quick`: small, to see that it works."""
    return _measure(BUSES["both"], 2_000 if quick else TARGETS, 1 if quick else ROUNDS, progress)


def _main() -> None:
    arguments = _arguments()
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    try:
        found = _measure(
            BUSES[arguments.bus],
            arguments.targets,
            arguments.rounds,
            lambda line: print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True) if sys.stderr.isatty() else None,
        )
    except BrokerUnavailable as error:
        sys.exit(f"{error}")
    for row in found.rows:
        print(f"\n{row[0]}")
        for column, cell in zip(found.columns[1:], row[1:], strict=True):
            print(f"  {column:<28} {cell}")
    print()
    for goal in found.goals:
        print(
            f"{'reached' if goal.reached else 'MISSED'}: {goal.what}: {goal.found:.2f} of {goal.wanted:g} {goal.unit}"
        )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found.raw, indent=2) + "\n")


if __name__ == "__main__":
    logging.getLogger("backplane").setLevel(logging.CRITICAL)
    _main()
