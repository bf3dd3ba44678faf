"""Many consumers that join and leave, and many that come and go: nothing unexplained, and nothing is left of them."""

from __future__ import annotations

import asyncio
import gc
import sys

from backplane_channels import BackplaneChannelLayer

from tests.product.channels.conftest import MakeLayer
from tests.product.channels.crowd import Crowd
from tests.support.waiting import until


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


async def test_what_comes_and_goes_leaves_nothing(here: BackplaneChannelLayer, *, long: bool) -> None:
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

    before = await go_round(9_000)  # as many as there are recently used targets that are kept
    after = await go_round(100_000 if long else 3_000)
    assert after - before < 3_000, f"{after - before} blocks of memory more"
    assert staying
