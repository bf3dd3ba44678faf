"""Lines that are cut without a word: both ways, towards the pod alone, towards the broker alone."""

from __future__ import annotations

import pytest

from tests.product.faults.rig import Rig
from tests.support.waiting import until

CLOCKS_S = 0.02
"""Two readings of the wall clock, and one of the monotonic clock that is converted to it, on a busy machine."""

PROBE_S = 1.0


@pytest.fixture
def probing(rig: Rig) -> Rig:
    rig.options["probe_interval_s"] = PROBE_S
    return rig


async def test_a_half_open_line_is_found_and_replaced(probing: Rig) -> None:
    rig, proxy = probing, probing.proxy()
    here = await rig.pod()
    there = await rig.pod(proxy)
    for pod in (here, there):
        await rig.sockets(pod, 5)
    async with rig.traffic(here, there):
        await rig.more(50, "traffic before the cut")
        proxy.up.drop()
        proxy.down.drop()
        proxy.refuse()
        await until(lambda: there.is_degraded, "the pod notices")
        assert there.backplane.ready().reason
        assert proxy.up.dropped_bytes, "the pod was speaking into the void"
        assert proxy.down.dropped_bytes, "and the broker, too"
        proxy.heal()
        await rig.all_live()
        await rig.more(50, "traffic after it healed")
    await rig.settle()
    rig.ledger.assert_clean()
    assert (here.links, there.links) == (1, 2)
    assert here.gaps == [], "a pod whose line was whole missed nothing"
    assert [gap.cause for gap in there.gaps] == ["reconnect"]


async def test_a_deaf_pod_replaces_its_link(probing: Rig) -> None:
    """Only what comes from the broker is lost: publishing works, and no socket tells."""
    rig, proxy = probing, probing.proxy()
    here = await rig.pod()
    there = await rig.pod(proxy)
    for pod in (here, there):
        await rig.sockets(pod, 5)
    async with rig.traffic(here):
        await rig.more(50, "traffic before the cut", *[w for w in rig.ledger.witnesses if w.pod == there.name])
        proxy.down.drop()
        await until(lambda: there.is_degraded, "the pod notices")
        assert proxy.down.dropped_bytes
        proxy.heal()
        await rig.all_live()
        await rig.more(50, "traffic after it healed", *[w for w in rig.ledger.witnesses if w.pod == there.name])
    await rig.settle()
    rig.ledger.assert_clean()
    assert (here.links, there.links) == (1, 2)
    assert rig.ledger.missing, "the line was deaf under traffic"


async def test_a_stalled_pod_sends_again_what_was_swallowed(probing: Rig) -> None:
    """Only what goes to the broker is lost: the pod hears, and nobody hears the pod."""
    rig, proxy = probing, probing.proxy()
    here = await rig.pod(proxy)
    there = await rig.pod()
    await rig.sockets(here, 5)
    theirs = await rig.sockets(there, 5)
    async with rig.traffic(here):
        await rig.more(50, "traffic before the cut", *theirs)
        proxy.up.drop()
        await until(lambda: here.is_degraded, "the pod notices")
        assert proxy.up.dropped_bytes
        proxy.heal()
        await rig.all_live()
        await rig.more(50, "traffic after it healed", *theirs)
    await rig.settle()
    rig.ledger.assert_clean()
    assert (here.links, there.links) == (2, 1)
    assert [rig.ledger.verdict(witness).missing for witness in theirs] == [[]] * 5, "swallowed, and sent again"
    assert here.backplane.stats().dropped == {}


async def test_what_a_stalled_pod_has_no_room_for_is_counted_and_its_hole_is_noticed(
    probing: Rig,
) -> None:
    rig, proxy = probing, probing.proxy()
    here = await rig.pod(proxy, outbox_max_messages=200)
    there = await rig.pod()
    theirs = await rig.sockets(there, 5)
    async with rig.traffic(here):
        await rig.more(20, "traffic before the cut", *theirs)
    await here.backplane.flush(timeout_s=10)
    proxy.up.drop()
    await rig.publish(here, 500)
    dropped = here.backplane.stats().dropped
    assert set(dropped) == {"outbox"}
    assert dropped["outbox"] == len(rig.ledger.dropped) >= 300
    proxy.heal()
    await until(lambda: here.links == 2 and here.is_live, "the link is replaced")
    if rig.options["routing"] == "broadcast":
        # They were the last: no newer event shows the hole, the beat does.
        await until(lambda: sum([gap.missed or 0 for gap in there.gaps]) == dropped["outbox"], "the tail is noticed")
    await rig.settle()
    rig.ledger.assert_clean()
    assert {gap.cause for gap in there.gaps} == {"sequence"}
    assert sum([gap.missed or 0 for gap in there.gaps]) == dropped["outbox"]
    missing = {event for witness in theirs for event in rig.ledger.verdict(witness).missing}
    assert missing == rig.ledger.dropped, "what is missing is what was counted, to the last"
    told = {witness.name: sum([gap.missed or 0 for gap in witness.gaps]) for witness in theirs}
    if rig.options["routing"] == "interest":
        assert sum(told.values()) == dropped["outbox"], "each socket was told of its own target's"
    else:
        assert set(told.values()) == {dropped["outbox"]}, "each socket was told of the channel's"
    assert proxy.up.dropped_bytes


async def test_a_holes_gap_holds_the_moments_at_which_what_is_missing_was_published(probing: Rig) -> None:
    rig, proxy = probing, probing.proxy()
    here, there = await rig.pod(proxy, outbox_max_messages=100), await rig.pod()
    theirs = await rig.sockets(there, 5)
    async with rig.traffic(here):
        await rig.more(20, "traffic before the cut", *theirs)
        proxy.up.drop()
        await until(lambda: len(rig.ledger.dropped) > 100, "the outbox is full")
        proxy.heal()
        await rig.more(100, "traffic after it healed", *theirs)
    await rig.settle()
    for witness in theirs:
        assert witness.gaps
        for event in rig.ledger.verdict(witness).missing:
            at = rig.ledger.at[event]
            assert any(gap.since - CLOCKS_S <= at <= gap.until + CLOCKS_S for gap in witness.gaps), (
                "reload from since, and it is there"
            )
