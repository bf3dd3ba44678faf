"""Gaps at bare sinks: at most one a second for each, however many holes and whoever else is late."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import pytest
from backplane_core import Gap, GapCallback
from backplane_core._inbound.coverage import Coverage
from backplane_core._inbound.gap_notifier import GapNotifier
from backplane_core._inbound.subscriptions import Subscriptions
from backplane_core._inbound.watermark import Watermark
from backplane_core._local.entry import Entry
from backplane_core._local.registry import Registry
from backplane_core._protocol.routing import make_routing
from backplane_core._runtime.reporter import Reporter
from backplane_core._runtime.system import System

from tests.product.model.virtual_loop import VirtualLoop, run


def subscriptions() -> Subscriptions:
    return Subscriptions(make_routing("broadcast", "c", 1), Registry())


@pytest.mark.parametrize("seed", range(20))
def test_each_sink_hears_of_all_holes_soon_and_of_one_gap_a_second(seed: int) -> None:
    chance = random.Random(seed)
    loop = VirtualLoop()
    told: dict[str, list[tuple[float, Gap]]] = {f"c{number}": [] for number in range(5)}
    holes: dict[str, list[float]] = {name: [] for name in told}

    def listener(name: str) -> GapCallback:
        return lambda gap: told[name].append((loop.time(), gap))

    async def storm() -> None:
        entries = [Entry(conn_id=name, sink=print, raw=False, on_gap=listener(name), since=0.0) for name in told]
        notifier = GapNotifier(
            Reporter(), System(monotonic=loop.time, wall=loop.time), subscriptions(), Coverage(), Watermark(0.0)
        )
        for _ in range(60):
            await asyncio.sleep(chance.choice([0.0, 0.05, 0.3, 0.6]))
            now = loop.time()
            gap = Gap(channel="c", cause="sequence", reason="", since=now, until=now, missed=1)
            concerned = chance.sample(entries, chance.randrange(1, 4))
            assert notifier.notify(concerned, gap)
            for entry in concerned:
                holes[entry.conn_id].append(now)
        await asyncio.sleep(1.2)
        notifier.close()

    run(loop, storm())
    for name, gaps in told.items():
        moments = [at for at, _ in gaps]
        assert all(later - earlier >= 1 for earlier, later in pairwise(moments))
        assert sum([gap.missed or 0 for _, gap in gaps]) == len(holes[name])
        for hole in holes[name]:
            assert any(gap.since <= hole <= gap.until and hole <= at <= hole + 1.2 for at, gap in gaps)
