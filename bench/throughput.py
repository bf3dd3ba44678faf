"""Events per second and processor time per event, against the bare clients and other libraries on the same work.

    uv run bench/throughput.py [--events 100000] [--rounds 5] [--bus redis|nats|both] [--json FILE]
    uv run --group bench bench/throughput.py --peers

One publisher in one process, one connection in another, a broker of our own beside them. The contestants take turns,
round after round, so that a busy minute of this machine hits all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

# Run as a script, this folder is on the path and the one above it is not.
sys.path.insert(0, str(Path(__file__).parents[1]))

from backplane_testservers import BrokerUnavailable, Kind, open_own_broker

from bench.contest import ContestFailed
from bench.contestants import CONTESTANTS, Contestant, lineup
from bench.findings import Findings, Progress
from bench.job import ENVELOPE_LIKE, Routing
from bench.libraries import LibraryMissing, need_peers
from bench.report import Rounds, table
from bench.rounds import play
from bench.verdict import findings

__all__ = ["measure"]

BUSES: Final[dict[str, tuple[Kind, ...]]] = {"redis": ("redis",), "nats": ("nats",), "both": ("redis", "nats")}
EVENTS: Final = 100_000
ROUNDS: Final = 5
CAVEAT: Final = "Only ratios within one run mean anything: rates differ by machine and by minute."


def measure(progress: Progress, *, quick: bool) -> Findings:
    """Let all contestants on both brokers take their turns: about seven minutes; quick, one.

    Raises:
        BrokerUnavailable: There is no Redis or no NATS.
        ContestFailed: A process of a contestant ended early or got stuck.
        LibraryMissing: The dependency group `bench` is not installed.
    """
    need_peers()
    events, rounds = (5_000, 1) if quick else (EVENTS, ROUNDS)
    return _measure(progress, {bus: lineup(bus) for bus in BUSES["both"]}, events=events, rounds=rounds)


def _measure(
    progress: Progress,
    contestants: Mapping[Kind, Mapping[str, Contestant]],
    *,
    events: int,
    rounds: int,
    size: int = 200,
    routing: Routing = "broadcast",
) -> Findings:
    played: dict[Kind, Rounds] = {}
    for bus, chosen in contestants.items():
        with open_own_broker(bus) as broker:
            playing = play(broker, chosen, progress, events=events, rounds=rounds, size=size, routing=routing)
            played[bus] = asyncio.run(playing)
    return findings(played, settings={"events": events, "rounds": rounds, "size": size, "routing": routing})


def _chosen(arguments: argparse.Namespace) -> dict[Kind, dict[str, Contestant]]:
    return {
        bus: chosen
        for bus in BUSES[arguments.bus]
        if (
            chosen := {
                key: contestant
                for key, contestant in lineup(bus, peers=arguments.peers).items()
                if not arguments.only or key in arguments.only
            }
        )
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=EVENTS, help="per contestant and round; a slow one gets a share")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--bus", choices=BUSES, default="both")
    parser.add_argument(
        "--routing",
        choices=("broadcast", "interest"),
        default="broadcast",
        help="of the contestants that don't name one",
    )
    parser.add_argument("--size", type=int, default=200, help="bytes of an event's JSON")
    parser.add_argument("--peers", action="store_true", help="with other libraries; they need `uv run --group bench`")
    parser.add_argument(
        "--only", nargs="+", choices=CONTESTANTS, metavar="CONTESTANT", help="among " + ", ".join(CONTESTANTS)
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    arguments = parser.parse_args()
    if arguments.events < 1 or arguments.rounds < 1 or arguments.size < ENVELOPE_LIKE:
        parser.error(f"--events and --rounds are at least 1, --size at least {ENVELOPE_LIKE}")
    return arguments


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _main() -> None:
    arguments = _arguments()
    options: dict[str, Any] = {name: getattr(arguments, name) for name in ("events", "rounds", "size", "routing")}
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {options}")
    try:
        if arguments.peers:
            need_peers()
        found = _measure(_progress, _chosen(arguments), **options)
    except (BrokerUnavailable, ContestFailed, LibraryMissing) as error:
        sys.exit(str(error))
    _progress("")
    print(f"\n{table(found.columns, found.rows)}\n\n{CAVEAT}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found.raw, indent=2) + "\n")


if __name__ == "__main__":
    _main()
