"""An outage that outlasts the outbox: it stays bounded, each drop is counted, attempts are few, others see the hole."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from itertools import pairwise

import pytest
from backplane_testservers import OwnBroker

from tests.product.faults.rig import Rig
from tests.support.waiting import until

OUTAGE_S = 20.0
OUTAGE_LONG_S = 120.0
PATIENCE_S = 20.0
OUTBOX = 1_000
MIB = 1024 * 1024


async def test_what_the_outbox_has_no_room_for_is_counted_and_a_hole_for_the_others(
    rig: Rig, broker: OwnBroker
) -> None:
    here, there = await rig.pod(outbox_max_messages=OUTBOX), await rig.pod()
    await rig.sockets(here, 5)
    theirs = await rig.sockets(there, 5)
    async with rig.traffic(here):
        await rig.more(20, "traffic before the kill", *theirs)
    await here.backplane.flush(timeout_s=10)
    broker.kill()
    await rig.all_degraded()
    waiting = here.backplane.stats().outbox_messages
    await rig.publish(here, 3 * OUTBOX)
    stats = here.backplane.stats()
    assert stats.outbox_messages == OUTBOX
    assert stats.dropped == {"outbox": 3 * OUTBOX - (OUTBOX - waiting)}
    assert len(rig.ledger.dropped) == stats.dropped["outbox"], "each by name"
    broker.restart()
    await rig.settle()
    rig.ledger.assert_clean()
    assert here.backplane.stats().dropped == stats.dropped
    arrived = {event for witness in rig.ledger.witnesses if witness.pod == there.name for event in witness.events}
    assert not arrived & rig.ledger.dropped, "what was counted as dropped was not sent"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("broker", ["redis"], indirect=True)
@pytest.mark.parametrize("routing", ["broadcast"], indirect=True)
async def test_a_long_outage_costs_few_attempts_and_little_memory(rig: Rig, broker: OwnBroker, *, long: bool) -> None:
    outage_s = OUTAGE_LONG_S if long else OUTAGE_S
    proxy = rig.proxy()
    here = await rig.pod(proxy, outbox_max_bytes=MIB)
    await rig.sockets(here, 5)
    broker.kill()
    await rig.all_degraded()
    down_since = time.monotonic()
    tracemalloc.start()
    try:
        await rig.publish(here, 20_000)
        rig.ledger.dropped.clear()
        before, _ = tracemalloc.get_traced_memory()
        published = here.backplane.stats().published
        for _ in range(30_000):
            await rig.publish_unrecorded(here)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert here.backplane.stats().published == published + 30_000
    assert here.backplane.stats().outbox_bytes <= MIB
    assert here.backplane.stats().dropped["outbox"] > 30_000
    assert after - before < MIB, "a full outbox grows no more"

    # Some of the longest waits, which a broker that says no at once gets for ever: half a second to two.
    goal = down_since + outage_s + 12
    await until(lambda: time.monotonic() > goal, "the outage lasts", outage_s + 60)
    attempts = [at for at in proxy.accepted_at if at > down_since]
    late = [at for at in attempts if at - down_since > PATIENCE_S]
    assert len(attempts) >= 10, "it keeps trying"
    assert len(attempts) <= 2 * (outage_s + 12) + 10, "no more than two a second"
    assert len(late) >= 2, "for ever"
    assert all(later - earlier >= 0.5 - 0.05 for earlier, later in pairwise(late))
    broker.restart()
    await rig.all_live()
    await asyncio.sleep(0)
