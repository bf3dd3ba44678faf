"""Very many subscriptions on one link cost it no task, no queue and little memory, by either `ClientIO`."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc

from tests.product.nats.helpers import listening, opened

BATCHES = 8
BATCH = 512


async def test_a_subscription_is_no_task_and_no_queue_and_takes_little_memory(
    client_io: str, nats_url: str, channel: str
) -> None:
    batches = [[f"{channel}:@room:{batch}-{number}" for number in range(BATCH)] for batch in range(BATCHES)]
    async with opened(nats_url) as link, listening(link) as listener:
        await link.subscribe([channel])
        tasks = len(asyncio.all_tasks())
        gc.collect()
        queues = sum([isinstance(known, asyncio.Queue) for known in gc.get_objects()])
        tracemalloc.start()
        try:
            for batch in batches:
                await link.subscribe(batch)
            gc.collect()
            taken = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert len(asyncio.all_tasks()) == tasks
        assert sum([isinstance(known, asyncio.Queue) for known in gc.get_objects()]) <= queues + 1
        # Measured: some 250 bytes on the fast path, 800 on the public one.
        assert taken < (1_024 if client_io == "inline" else 2_048) * BATCHES * BATCH
        await link.send([(batch[-1], b"1") for batch in batches])
        assert await listener.until(BATCHES) == [(batch[-1], b"1") for batch in batches]
        await link.unsubscribe(batches[0])
        await link.send([(batch[-1], b"2") for batch in batches])
        assert (await listener.until(2 * BATCHES - 1))[BATCHES:] == [(batch[-1], b"2") for batch in batches[1:]]
