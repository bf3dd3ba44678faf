"""Many consumers that join and leave, and many that come and go: nothing unexplained, and nothing is left of them."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Final

from backplane_channels import BackplaneChannelLayer
from backplane_core._protocol.sequence import MAXLEFT

from tests.product.channels.conftest import MakeLayer
from tests.product.channels.crowd import Crowd
from tests.support.waiting import until

BLOCKS_EACH: Final = 8
"""Of memory, that a channel takes which is remembered though it was left."""


async def test_a_thousand_consumers_in_fifty_groups_miss_nothing_unexplained(layers: MakeLayer) -> None:
    crowd = Crowd([layers(on_gap="backplane.gap") for _ in range(3)], [f"room-{number}" for number in range(50)])
    await crowd.gather(1_000)
    for turn in range(400):
        for number in range(5):
            await crowd.send(crowd.groups[(turn * 5 + number) % 50])
        if turn % 2:
            await crowd.move_one()
    await crowd.settle(crowd.consumers)
    for consumer in crowd.consumers:
        crowd.check(consumer)
    assert sum(consumer.gaps for consumer in crowd.consumers) == 0
    assert sum(len(got) for consumer in crowd.consumers for got in consumer.got.values()) > 30_000
    await crowd.end()


async def come_and_go(layer: BackplaneChannelLayer, number: int) -> None:
    """Be a consumer that ends: in the middle of a receive, on a message, or without ever having received."""
    channel = await layer.new_channel()
    await layer.group_add(f"group-{number % 10}", channel)
    if number % 3 == 0:
        reading = asyncio.ensure_future(layer.receive(channel))
        await asyncio.sleep(0)
        reading.cancel()  # and it is never called again
        await asyncio.gather(reading, return_exceptions=True)
    elif number % 3 == 1:
        await layer.send(channel, {"type": "unread"})


async def test_what_comes_and_goes_leaves_nothing(here: BackplaneChannelLayer, routing: str, *, long: bool) -> None:
    staying = await here.new_channel()

    def left() -> int:
        stats = here.stats()
        return -1 if stats is None else stats.connections + stats.targets

    async def go_round(count: int) -> int:
        for number in range(count):
            await come_and_go(here, number)
        await until(lambda: left() == 1, "only the one that stays is left")
        gc.collect()
        return sys.getallocatedblocks()

    # Each consumer has a bus channel under `interest`, and so many of those that were left are remembered for a while.
    remembered = MAXLEFT if routing == "interest" else 0
    first = remembered if long else 0
    before = await go_round(max(9_000, first))  # as many as there are recently used targets that are kept
    count = 100_000 if long else 3_000
    after = await go_round(count)
    most = 3_000 + BLOCKS_EACH * min(count, remembered - first)
    assert after - before < most, f"{after - before} blocks of memory more"
    assert staying
