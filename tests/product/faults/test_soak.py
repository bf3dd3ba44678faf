"""Hours of steady traffic with a random fault now and then: nothing unexplained, and neither memory nor sockets grow.

    BACKPLANE_SOAK_S=3600 uv run pytest --long tests/product/faults/test_soak.py

Without `--long` it runs for seconds, so that it still works on the day when it is needed.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, TypeAlias

import psutil  # type: ignore[import-untyped]  # it has no py.typed
import pytest
from attrs import define, field
from backplane_testservers import OwnBroker, Proxy

from tests.product.faults.rig import Rig

SHORT_S = 8.0
LONG_S = 3_600.0
RATE_PER_S = 500
BETWEEN_FAULTS_S = 120.0
FORGET_S = 60.0
RSS_PER_HOUR = 1024 * 1024
SPARE_FDS = 6
"""Sockets of links that are being replaced at the moment of a look."""
WARM_S = 600.0
"""Allocators and caches grow at first; a slope means something after ten minutes."""


@define
class Course:
    """One run: the rig, the proxy before one pod, and what memory and descriptors did."""

    rig: Rig
    broker: OwnBroker
    proxy: Proxy
    random: Random
    faults: list[str] = field(factory=list[str])
    samples: list[tuple[float, int, int]] = field(factory=list[tuple[float, int, int]])

    def sample(self) -> None:
        gc.collect()
        process: Any = psutil.Process()
        self.samples.append((time.monotonic(), process.memory_info().rss, process.num_fds()))

    async def fault(self) -> None:
        """Hurt something at random, and return once all pods are live again."""
        name, hurt = self.random.choice(sorted(FAULTS.items()))
        self.faults.append(name)
        await hurt(self)
        self.proxy.heal()
        await self.rig.all_live(f"live again after: {name}")
        await self.rig.more(20, f"traffic after: {name}")


async def kill(course: Course) -> None:
    course.broker.kill()
    await course.rig.all_degraded()
    course.broker.restart()


async def freeze(course: Course) -> None:
    course.broker.freeze()
    await course.rig.all_degraded()
    course.broker.thaw()


async def cut(course: Course) -> None:
    assert course.proxy.reset() == 1
    await asyncio.sleep(0.1)


async def black_hole(course: Course) -> None:
    course.proxy.up.drop()
    course.proxy.down.drop()
    await asyncio.sleep(1.5)


async def deaf(course: Course) -> None:
    course.proxy.down.drop()
    await asyncio.sleep(1.5)


async def stalled(course: Course) -> None:
    course.proxy.up.drop()
    await asyncio.sleep(1.5)


async def narrow(course: Course) -> None:
    course.proxy.up.limit(64 * 1024)
    await asyncio.sleep(1)


Fault: TypeAlias = Callable[[Course], Awaitable[None]]
FAULTS: dict[str, Fault] = {fault.__name__: fault for fault in (kill, freeze, cut, black_hole, deaf, stalled, narrow)}


@pytest.fixture
def run_s(*, long: bool) -> float:
    return float(os.environ.get("BACKPLANE_SOAK_S", LONG_S if long else SHORT_S))


@pytest.mark.timeout(0)
@pytest.mark.parametrize("routing", ["broadcast"], indirect=True)
async def test_steady_traffic_with_random_faults_stays_clean_and_grows_nothing(
    rig: Rig, broker: OwnBroker, run_s: float, record_property: Callable[[str, object], None]
) -> None:
    rig.options["probe_interval_s"] = 0.5
    proxy = rig.proxy()
    here, there = await rig.pod(), await rig.pod(proxy)
    for pod in (here, there):
        await rig.sockets(pod, 10)
    seed = int(os.environ.get("BACKPLANE_SOAK_SEED", time.time_ns() % 1_000_000))
    record_property("seed", seed)
    course = Course(rig, broker, proxy, Random(seed))
    ends = time.monotonic() + run_s
    pause_s = min(BETWEEN_FAULTS_S, run_s / 4)
    async with rig.traffic(here, there, rate_per_s=RATE_PER_S / 2):
        await rig.more(20, "traffic")
        while time.monotonic() < ends:
            await course.fault()
            await asyncio.sleep(pause_s / 2)
            rig.ledger.check_and_forget(older_than_s=FORGET_S)
            course.sample()
            await asyncio.sleep(pause_s / 2)
    await rig.settle()
    rig.ledger.assert_clean()
    record_property("faults", course.faults)
    assert course.faults
    fds = [fds for _, _, fds in course.samples]
    assert max(fds) - min(fds) <= SPARE_FDS
    began = course.samples[0][0]
    steady = [sample for sample in course.samples if sample[0] - began > WARM_S]
    if len(steady) > 10:
        slope = _slope([(at, rss) for at, rss, _ in steady]) * 3_600
        record_property("RSS bytes per hour", slope)
        assert slope < RSS_PER_HOUR


def _slope(points: list[tuple[float, int]]) -> float:
    """Return the least-squares slope."""
    mean_x = sum([x for x, _ in points]) / len(points)
    mean_y = sum([y for _, y in points]) / len(points)
    above = sum([(x - mean_x) * (y - mean_y) for x, y in points])
    return above / sum([(x - mean_x) ** 2 for x, _ in points])
