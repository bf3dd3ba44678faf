"""`backplane bench`: latency and throughput of a broker, from this machine."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import Sequence
from typing import Final
from uuid import uuid4

import typer
from attrs import define, field, frozen
from backplane_core import BaseBackplane, Target, connect_from_env

from backplane_server._commands.opening import check_seconds, pod_name_of
from backplane_server._commands.settings import BusSettings
from backplane_server._commands.showing import plural, show_json
from backplane_server._failure import MISUSED, Failure

__all__ = ["Bench", "percentile"]

IN_FLIGHT: Final = 1_000
"""Events in flight: enough to keep any broker busy, and fewer than a queue may hold."""
MOST_BYTES: Final = 1024 * 1024
TARGET: Final = Target("backplane_bench", "1")
BAR: Final = 30
ARRIVES_S: Final = 30.0
"""Seconds that the last events have to arrive."""


@frozen(kw_only=True)
class Bench:
    """What is to be measured.

    Args:
        seconds: Of each part.
        event_bytes: Of an event.
        as_json: Whether the figures are JSON.
    """

    seconds: float
    event_bytes: int
    as_json: bool

    async def do(self, settings: BusSettings) -> int:
        """Measure, print the figures, and return the exit code."""
        settings.require_bus()
        check_seconds("--seconds", self.seconds)
        if not 0 < self.event_bytes <= MOST_BYTES:
            raise Failure(f"--bytes {self.event_bytes} is not allowed", f"write 1 to {MOST_BYTES}", MISUSED)
        event = b'"%b"' % (b"x" * max(0, self.event_bytes - 2))
        channel = f"backplane-bench-{uuid4().hex[:8]}"
        name = pod_name_of("bench")
        async with (
            connect_from_env(settings.variables, channel=channel, pod_name=name) as here,
            connect_from_env(settings.variables, channel=channel, pod_name=name) as there,
        ):
            arrivals = Arrivals()
            await here.attach("bench", arrivals.take, raw=True)
            await here.associate("bench", TARGET)
            latencies = await self._one_by_one(there, arrivals, event)
            rate = await self._as_many_as_go(there, arrivals, event)
        if not latencies:
            raise Failure(f"no event came back within {self.seconds:g} s", "run `backplane doctor` to find out more")
        self._show(latencies, rate)
        return 0

    async def _one_by_one(self, there: BaseBackplane, arrivals: Arrivals, event: bytes) -> Sequence[float]:
        latencies: list[float] = []
        began = time.perf_counter()
        while (now := time.perf_counter()) - began < self.seconds:
            wanted = arrivals.count + 1
            await there.publish_json(TARGET, event)
            if not await arrivals.reach(wanted, self.seconds):
                break
            latencies.append(time.perf_counter() - now)
            _show_progress("latency", (now - began) / self.seconds)
        return sorted(latencies)

    async def _as_many_as_go(self, there: BaseBackplane, arrivals: Arrivals, event: bytes) -> float:
        published, began = 0, time.perf_counter()
        first = arrivals.count
        while (passed := time.perf_counter() - began) < self.seconds:
            if published - (arrivals.count - first) < IN_FLIGHT:
                await there.publish_json(TARGET, event)
                published += 1
            elif not await arrivals.reach(arrivals.count + 1, self.seconds):
                break
            if not published % IN_FLIGHT:
                _show_progress("rate", passed / self.seconds)
        await arrivals.reach(first + published, ARRIVES_S)
        _end_progress()
        return (arrivals.count - first) / (time.perf_counter() - began)

    def _show(self, latencies: Sequence[float], rate: float) -> None:
        figures = {f"p{part}": round(percentile(latencies, part) * 1000, 3) for part in (50, 99)}
        if self.as_json:
            show_json({"latency_ms": {**figures, "max": round(latencies[-1] * 1000, 3)}, "events_per_s": round(rate)})
            return
        typer.echo(
            f"latency  {figures['p50']:.2f} ms in the median, {figures['p99']:.2f} ms at p99, "
            f"{latencies[-1] * 1000:.2f} ms at most, of {plural(len(latencies), 'event')} one after the other"
        )
        typer.echo(f"rate     {rate:,.0f} events/s of {self.event_bytes} bytes, from one pod to another")


@define
class Arrivals:
    """Counts what arrives."""

    count: int = field(default=0, init=False)
    _came: asyncio.Event = field(factory=asyncio.Event, init=False)

    def take(self, _: bytes) -> None:
        """Count one."""
        self.count += 1
        self._came.set()

    async def reach(self, wanted: int, timeout_s: float) -> bool:
        """Wait until this many have arrived in all; return whether they did in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.count < wanted:
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            return False
        return True


def percentile(ordered: Sequence[float], part: int) -> float:
    """Return a percentile: the value that this many of a hundred do not exceed.

    Args:
        ordered: At least one value, in ascending order.
        part: 1 to 100.
    """
    return ordered[max(0, math.ceil(len(ordered) * part / 100) - 1)]


def _show_progress(what: str, done: float) -> None:
    if sys.stderr.isatty():
        full = round(BAR * min(1.0, done))
        typer.echo(f"\r{what:8} [{'#' * full}{'.' * (BAR - full)}]", err=True, nl=False)


def _end_progress() -> None:
    if sys.stderr.isatty():
        typer.echo(f"\r{' ' * (BAR + 11)}\r", err=True, nl=False)
