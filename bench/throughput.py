"""Events per second and processor time per event, against the bare clients on the same work in the same run.

    uv run bench/throughput.py [--events 20000] [--rounds 3] [--bus redis|nats|both] [--json FILE]

One publisher in one process, one connection in another, a broker of our own beside them. The contestants take turns,
round after round, so that a busy minute of this machine hits all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import sys
import uuid
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

# Run as a script, this folder is on the path and the one above it is not.
sys.path.insert(0, str(Path(__file__).parents[1]))

import redis

from bench.contest import ContestFailed, Result, run
from bench.contestants import lineup
from bench.job import ENVELOPE_LIKE, Job
from bench.report import as_json, rows, table
from tests.brokers import Broker, BrokerUnavailable, Kind, open_own_broker

LIBRARIES: Final = ("backplane-core", "redis", "hiredis", "nats-py", "msgspec", "attrs")
BUSES: Final[dict[str, tuple[Kind, ...]]] = {"redis": ("redis",), "nats": ("nats",), "both": ("redis", "nats")}
CAVEAT: Final = (
    "Only ratios within one run mean anything: rates differ by machine and by minute. They are the medians of each "
    "round's own ratios."
)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=20_000, help="per contestant and round (bare redis-py: a 20th)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bus", choices=BUSES, default="both")
    parser.add_argument(
        "--routing",
        choices=("broadcast", "interest"),
        default="broadcast",
        help="of the contestants that don't name one",
    )
    parser.add_argument("--size", type=int, default=200, help="bytes of an event's JSON")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    arguments = parser.parse_args()
    if arguments.events < 1 or arguments.rounds < 1 or arguments.size < ENVELOPE_LIKE:
        parser.error(f"--events and --rounds are at least 1, --size at least {ENVELOPE_LIKE}")
    return arguments


def _server_version(broker: Broker) -> str:
    if broker.kind == "redis":
        untyped: Any = redis  # as far as a strict checker sees
        with untyped.Redis.from_url(broker.url) as client:
            return f"{broker.kind} {client.info('server')['redis_version']}"
    with socket.create_connection((broker.host, broker.port), timeout=5) as connection:
        greeting = connection.makefile("rb").readline()
    return f"nats {json.loads(greeting.partition(b' ')[2])['version']}"


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


async def _turn(key: str, share: float, broker: Broker, arguments: argparse.Namespace) -> Result:
    events = max(1, round(arguments.events * share))
    return await run(
        Job(
            contestant=key,
            url=broker.url,
            channel=f"bench:{uuid.uuid4().hex}",
            events=events,
            # Connections, caches and the interpreter's specialised code are warm after a few hundred.
            warmup=min(1_000, max(1, events // 4)),
            size=arguments.size,
            routing=arguments.routing,
        )
    )


async def _rounds(broker: Broker, arguments: argparse.Namespace) -> list[dict[str, Result]]:
    contestants = lineup(broker.kind)
    done: list[dict[str, Result]] = []
    for number in range(1, arguments.rounds + 1):
        results: dict[str, Result] = {}
        for key, contestant in contestants.items():
            _progress(f"{broker.kind}, round {number} of {arguments.rounds}: {contestant.title}")
            results[key] = await _turn(key, contestant.share, broker, arguments)
        done.append(results)
    _progress("")
    return done


def _main() -> None:
    arguments = _arguments()
    libraries = {name: version(name) for name in LIBRARIES}
    report: dict[str, Any] = {"python": platform.python_version(), "libraries": libraries, "cores": os.cpu_count()}
    print(f"Python {report['python']}, {', '.join([f'{name} {number}' for name, number in libraries.items()])}")
    print(
        f"{report['cores']} cores, load {os.getloadavg()[0]:.1f}; {arguments.rounds} rounds of {arguments.events:,} "
        f"events of {arguments.size} bytes; 64 publishers and connection() with routing={arguments.routing!r}"
    )
    for bus in BUSES[arguments.bus]:
        try:
            with open_own_broker(bus) as broker:
                server = _server_version(broker)
                rounds = asyncio.run(_rounds(broker, arguments))
        except (BrokerUnavailable, ContestFailed) as error:
            sys.exit(f"{bus}: {error}")
        found = rows(lineup(bus), rounds)
        report[bus] = {"server": server, "contestants": {key: as_json(row) for key, row in found.items()}}
        print(f"\n{server}\n{table(found)}")
    print(f"\n{CAVEAT}")
    if arguments.json is not None:
        settings = {name: getattr(arguments, name) for name in ("events", "rounds", "size", "routing")}
        arguments.json.write_text(json.dumps({**report, **settings}, indent=2) + "\n")


if __name__ == "__main__":
    _main()
