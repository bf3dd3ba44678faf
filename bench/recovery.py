"""How soon a fleet is back after an outage: live again, and the first event from another pod.

    uv run bench/recovery.py [--outages 1 3 10] [--rounds 3] [--bus redis|nats|both] [--json FILE]

Two pods, one publishing twenty times a second. The broker is killed, stays down, and is started again on the same port;
the clock runs from the moment that the port is open.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import statistics
import sys
import uuid
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any, Final

# Run as a script, this folder is on the path and the one above it is not.
sys.path.insert(0, str(Path(__file__).parents[1]))

from backplane_core import BaseBackplane, Target, connect
from backplane_testservers import BrokerUnavailable, Kind, OwnBroker, open_own_broker

BUSES: Final[dict[str, tuple[Kind, ...]]] = {"redis": ("redis",), "nats": ("nats",), "both": ("redis", "nats")}
TARGET: Final = Target.user("u1")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--outages", type=float, nargs="+", default=[1.0, 3.0, 10.0], help="seconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bus", choices=BUSES, default="both")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    return parser.parse_args()


async def _publish(pod: BaseBackplane) -> None:
    while True:
        await pod.publish(TARGET, perf_counter())
        await asyncio.sleep(0.05)


async def _watermark(
    broker: OwnBroker, here: BaseBackplane, there: BaseBackplane, outage_s: float
) -> tuple[float, float]:
    """Return after how many seconds both pods were live, and an event published since then had arrived."""
    arrived: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    opened_at = float("inf")

    def sink(published_at: float) -> None:
        if published_at >= opened_at and not arrived.done():
            arrived.set_result(perf_counter())

    await there.attach("c1", sink)
    broker.kill()
    await asyncio.gather(*[pod.wait_for_state("degraded", timeout_s=30) for pod in (here, there)])
    await asyncio.sleep(outage_s)
    await asyncio.to_thread(broker.start)
    opened_at = perf_counter()
    await asyncio.gather(*[pod.wait_for_state("live", timeout_s=30) for pod in (here, there)])
    live_at = perf_counter()
    return live_at - opened_at, await arrived - opened_at


async def _measure(broker: OwnBroker, arguments: argparse.Namespace) -> dict[float, list[tuple[float, float]]]:
    took: dict[float, list[tuple[float, float]]] = {outage_s: [] for outage_s in arguments.outages}
    channel = f"bench:{uuid.uuid4().hex}"
    async with connect(broker.url, channel=channel) as here, connect(broker.url, channel=channel) as there:
        await there.attach("c1", lambda _: None)
        await there.associate("c1", TARGET)
        publishing = asyncio.create_task(_publish(here))
        for _ in range(arguments.rounds):
            for outage_s, found in took.items():
                await asyncio.sleep(6)  # a link that lived for so long was a good one: short waits again
                found.append(await _watermark(broker, here, there, outage_s))
        publishing.cancel()
        with suppress(asyncio.CancelledError):
            await publishing
    return took


def _table(took: dict[float, list[tuple[float, float]]]) -> str:
    lines = [f"{'outage, s':>9}  {'live again, s (median, worst)':>30}  {'first event, s (median, worst)':>31}"]
    for outage_s, found in took.items():
        live, event = zip(*found, strict=True)
        cells = [f"{statistics.median(each):.2f}, {max(each):.2f}" for each in (live, event)]
        lines.append(f"{outage_s:>9g}  {cells[0]:>30}  {cells[1]:>31}")
    return "\n".join(lines)


def _main() -> None:
    arguments = _arguments()
    logging.getLogger("backplane").setLevel(logging.CRITICAL)  # it would report each of our outages
    report: dict[str, Any] = {"python": platform.python_version(), "cores": os.cpu_count()}
    print(
        f"Python {report['python']}, {report['cores']} cores, load {os.getloadavg()[0]:.1f}; {arguments.rounds} rounds"
    )
    for bus in BUSES[arguments.bus]:
        try:
            with open_own_broker(bus) as broker:
                took = asyncio.run(_measure(broker, arguments))
        except BrokerUnavailable as error:
            sys.exit(f"{bus}: {error}")
        report[bus] = {str(outage_s): found for outage_s, found in took.items()}
        print(f"\n{bus}\n{_table(took)}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    _main()
