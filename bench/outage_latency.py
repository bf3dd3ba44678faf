"""How long `publish` takes while the broker is healthy, dead, frozen, or behind a line that swallows everything.

    uv run bench/outage_latency.py [--events 2000] [--rounds 3] [--bus redis|nats|both] [--rate 1000] [--json FILE]

One pod with ten local connections publishes at a steady rate. The four conditions take turns, round after round, so
that a busy minute of this machine hits all of them. Local delivery is part of what is measured; the broker is not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any, Final

# Run as a script, this folder is on the path and the one above it is not.
sys.path.insert(0, str(Path(__file__).parents[1]))

from backplane_core import BaseBackplane, Target, connect
from backplane_testservers import BrokerUnavailable, Kind, OwnBroker, Proxy, open_own_broker

BUSES: Final[dict[str, tuple[Kind, ...]]] = {"redis": ("redis",), "nats": ("nats",), "both": ("redis", "nats")}
CONNECTIONS: Final = 10
TARGET: Final = Target.user("u1")
OUTBOX: Final = 1_000
"""Small, so that a full outbox is part of what is measured."""
SHARES: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
CAVEAT: Final = "Only a comparison within one run means anything: figures differ by machine and by minute."


def _swallow(_: OwnBroker, proxy: Proxy) -> None:
    proxy.up.drop()
    proxy.down.drop()


Hurt = Callable[[OwnBroker, Proxy], None]
CONDITIONS: Final[dict[str, Hurt]] = {
    "healthy": lambda _broker, _proxy: None,
    "dead": lambda broker, _proxy: broker.kill(),
    "frozen": lambda broker, _proxy: broker.freeze(),
    "black hole": _swallow,
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=2_000, help="per condition and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bus", choices=BUSES, default="both")
    parser.add_argument("--rate", type=int, default=1_000, help="events per second")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    arguments = parser.parse_args()
    if arguments.events < 1 or arguments.rounds < 1 or arguments.rate < 1:
        parser.error("--events, --rounds and --rate are at least 1")
    return arguments


async def _publish(pod: BaseBackplane, events: int, rate: int) -> list[float]:
    """Publish steadily and return how long each publish took, in seconds."""
    took: list[float] = []
    due = perf_counter()
    for number in range(events):
        begun = perf_counter()
        delivered = await pod.publish(TARGET, {"n": number, "pad": "x" * 200})
        took.append(perf_counter() - begun)
        assert delivered == CONNECTIONS, "local delivery does not depend on the broker"
        due += 1 / rate
        await asyncio.sleep(max(0.0, due - perf_counter()))
    return took


async def _turn(broker: OwnBroker, hurt: Hurt, arguments: argparse.Namespace) -> list[float]:
    with Proxy(broker.host, broker.port) as proxy:
        pod = await connect(
            proxy.url(broker.url), channel=f"bench:{uuid.uuid4().hex}", probe_interval_s=0.5, outbox_max_messages=OUTBOX
        )
        try:
            for number in range(CONNECTIONS):
                await pod.attach(f"c{number}", lambda _: None)
                await pod.associate(f"c{number}", TARGET)
            await _publish(pod, 200, arguments.rate)  # warm
            hurt(broker, proxy)
            return await _publish(pod, arguments.events, arguments.rate)
        finally:
            if not broker.running:
                broker.start()
            broker.thaw()
            await pod.aclose(drain_s=0)


async def _rounds(broker: OwnBroker, arguments: argparse.Namespace) -> dict[str, list[float]]:
    took: dict[str, list[float]] = {condition: [] for condition in CONDITIONS}
    for _ in range(arguments.rounds):
        for condition, hurt in CONDITIONS.items():
            took[condition] += await _turn(broker, hurt, arguments)
    return took


def _figures(took: list[float]) -> dict[str, float]:
    """Return milliseconds per share."""
    took = sorted(took)
    return {name: 1_000 * took[min(len(took) - 1, int(len(took) * share))] for name, share in SHARES.items()}


def _table(figures: Mapping[str, Mapping[str, float]]) -> str:
    lines = [f"{'publish, ms':<12}" + "".join([f"{name:>10}" for name in SHARES])]
    lines += [
        f"{condition:<12}" + "".join([f"{row[name]:>10.3f}" for name in SHARES]) for condition, row in figures.items()
    ]
    return "\n".join(lines)


def _main() -> None:
    arguments = _arguments()
    logging.getLogger("backplane").setLevel(logging.CRITICAL)  # it would report each of our faults
    report: dict[str, Any] = {"python": platform.python_version(), "cores": os.cpu_count()}
    print(
        f"Python {report['python']}, {report['cores']} cores, load {os.getloadavg()[0]:.1f}; {arguments.rounds} rounds "
        f"of {arguments.events:,} events per condition at {arguments.rate:,}/s, {CONNECTIONS} local connections"
    )
    for bus in BUSES[arguments.bus]:
        try:
            with open_own_broker(bus) as broker:
                took = asyncio.run(_rounds(broker, arguments))
        except BrokerUnavailable as error:
            sys.exit(f"{bus}: {error}")
        report[bus] = {condition: _figures(times) for condition, times in took.items()}
        print(f"\n{bus}\n{_table(report[bus])}")
    print(f"\n{CAVEAT}")
    if arguments.json is not None:
        settings = {name: getattr(arguments, name) for name in ("events", "rounds", "rate")}
        arguments.json.write_text(json.dumps({**report, **settings}, indent=2) + "\n")


if __name__ == "__main__":
    _main()
