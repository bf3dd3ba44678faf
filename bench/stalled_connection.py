"""What one connection that nobody reads costs the others: their p99 with it and without it.

    uv run bench/stalled_connection.py [--events 2000] [--rounds 5] [--rate 500]

One pod with a hundred connections, each read by a task of its own; every event is for all of them. In every other turn
one of them is not read, and its queue drops the oldest.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
from contextlib import AsyncExitStack
from statistics import median
from time import perf_counter
from typing import Final

from backplane_core import Connection, InMemoryBackplane, Target

CONNECTIONS: Final = 100
TARGET: Final = Target.org("acme")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=2_000, help="per turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=int, default=500, help="events per second")
    return parser.parse_args()


async def _read(connection: Connection, events: int, took: list[float]) -> None:
    async for event in connection:
        took.append(perf_counter() - event.value)
        events -= 1
        if not events:
            return


async def _turn(arguments: argparse.Namespace, *, stalled: bool) -> float:
    """Return the 99th percentile from publish to read, in milliseconds, over all connections but the first."""
    took: list[float] = []
    async with AsyncExitStack() as stack:
        pod = await stack.enter_async_context(InMemoryBackplane())
        connections = [
            await stack.enter_async_context(
                pod.connection(f"c{number}", TARGET, overflow="drop_oldest", max_pending=100)
            )
            for number in range(CONNECTIONS)
        ]
        async with asyncio.TaskGroup() as group:
            for number, connection in enumerate(connections):
                if number or not stalled:
                    group.create_task(_read(connection, arguments.events, took if number else []))
            due = perf_counter()
            for _ in range(arguments.events):
                await pod.publish(TARGET, perf_counter())
                due += 1 / arguments.rate
                await asyncio.sleep(max(0.0, due - perf_counter()))
        assert pod.stats().overflowed == (arguments.events - 100 if stalled else 0), "the stall is real"
    took.sort()
    return 1_000 * took[int(len(took) * 0.99)]


async def _measure(arguments: argparse.Namespace) -> list[tuple[float, float]]:
    await _turn(arguments, stalled=False)  # warm
    return [
        (await _turn(arguments, stalled=False), await _turn(arguments, stalled=True)) for _ in range(arguments.rounds)
    ]


def _main() -> None:
    arguments = _arguments()
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
        f"{arguments.rounds} rounds of {arguments.events:,} events at {arguments.rate}/s to {CONNECTIONS} connections"
    )
    found = asyncio.run(_measure(arguments))
    ratios = sorted([after / before for before, after in found])
    without, stalled = (median(figures) for figures in zip(*found, strict=True))
    print(f"p99, ms: without {without:.3f}, with one stalled {stalled:.3f}")
    print(f"ratio of the rounds: median {median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})")


if __name__ == "__main__":
    _main()
