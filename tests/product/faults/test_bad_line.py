"""A line that works badly: late, in fits and starts, cut now and then, or too narrow for what is published."""

from __future__ import annotations

from functools import partial

import pytest

from tests.product.faults.rig import Pod, Rig
from tests.support.waiting import until

CUTS = 4
CUTS_LONG = 60
BURSTS = 8
BURSTS_FULL = 20
BURSTS_LONG = 60
NARROW_BYTES_PER_S = 64 * 1024


def has_sent(pod: Pod, more_than: int) -> bool:
    return pod.backplane.stats().sent > more_than


async def test_late_lines_that_are_cut_now_and_then_cost_nothing_but_what_a_gap_tells(rig: Rig, *, long: bool) -> None:
    ours, theirs = rig.proxy(), rig.proxy()
    here, there = await rig.pod(ours), await rig.pod(theirs)
    await rig.sockets(here, 5)
    await rig.sockets(there, 5)
    for proxy in (ours, theirs):
        for way in (proxy.up, proxy.down):
            way.delay(0.2, jitter_s=0.1)
    async with rig.traffic(here, there):
        await rig.more(50, "traffic over late lines")
        for cut in range(CUTS_LONG if long else CUTS):
            proxy, pod = ((ours, here), (theirs, there))[cut % 2]
            links = pod.links
            assert proxy.reset() == 1
            await rig.new_link(pod, links)
            await rig.more(20, "traffic after the cut")
    await rig.settle()
    rig.ledger.assert_clean()
    for proxy, pod in ((ours, here), (theirs, there)):
        assert proxy.resets == (CUTS_LONG if long else CUTS) // 2
        assert pod.links == proxy.resets + 1, "a late line is no dead line"
        assert pod.backplane.stats().dropped == {}


async def test_a_line_too_narrow_costs_what_the_sender_counts_and_no_more(
    rig: Rig,
) -> None:
    proxy = rig.proxy()
    here = await rig.pod(proxy, outbox_max_messages=100)
    there = await rig.pod()
    await rig.sockets(here, 5)
    theirs = await rig.sockets(there, 5)
    proxy.up.limit(NARROW_BYTES_PER_S)
    async with rig.traffic(here, rate_per_s=2_000):
        await until(lambda: len(rig.ledger.dropped) > 500, "more than the line can take", 60)
    proxy.heal()
    await rig.settle()
    rig.ledger.assert_clean()
    stats = here.backplane.stats()
    assert stats.dropped == {"outbox": len(rig.ledger.dropped)}
    beats = stats.sent - (stats.published - stats.dropped["outbox"])
    assert 0 <= beats < 100, "published = sent + dropped, but for beats"
    assert here.links == there.links == 1, "narrow is not dead"
    missing = {event for witness in theirs for event in rig.ledger.verdict(witness).missing}
    assert missing == rig.ledger.dropped
    assert there.backplane.stats().gaps["sequence"], "and the others saw the holes"


@pytest.mark.timeout(240)
async def test_a_publishers_line_cut_again_and_again_amid_bursts_loses_nothing(
    rig: Rig, *, full: bool, long: bool
) -> None:
    proxy = rig.proxy()
    here = await rig.pod(proxy)
    there = await rig.pod()
    await rig.sockets(here, 5)
    theirs = await rig.sockets(there, 5)
    bursts = BURSTS_LONG if long else BURSTS_FULL if full else BURSTS
    for _ in range(bursts):
        links = here.links
        sent = here.backplane.stats().sent
        await rig.publish(here, 150)
        # Amid the burst: some is confirmed, some under way, some not yet written.
        await until(partial(has_sent, here, sent), "a part of the burst is out")
        await rig.publish(here, 150)
        assert proxy.reset() == 1
        await rig.new_link(here, links)
    await rig.settle()
    rig.ledger.assert_clean()
    assert proxy.resets == bursts
    assert [rig.ledger.verdict(witness).missing for witness in theirs] == [[]] * 5, "not one is lost"
    assert there.gaps == [], "nor told as lost"
    assert here.backplane.stats().dropped == {}
