"""Sentinel: a master killed, replaced, frozen or cut off; its pods find the next one, and every loss lies in a Gap."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from attrs import evolve
from backplane_core import LinkChanged, Proven
from backplane_core._protocol.sequence import Tracker
from backplane_redis._sentinel.link import SentinelLink
from backplane_redis._sentinel.quorum import NEWS_S
from backplane_redis._sentinel.watch import CHECK_S, MasterWatch
from backplane_testservers.sentinels import SentinelSet

from tests.conftest import available
from tests.product.faults.rig import Pod, Rig
from tests.support.waiting import until

PROBE_S = 5.0
RATE_PER_S = 500


@pytest.fixture
def sentinels() -> Iterator[SentinelSet]:
    with available(SentinelSet()) as sentinels:
        yield sentinels


@pytest.fixture
async def rig(leaves_nothing: None, sentinels: SentinelSet, routing: str, channel: str) -> AsyncIterator[Rig]:
    options = {"channel": channel, "routing": routing, "probe_interval_s": PROBE_S}
    async with Rig(sentinels.master, options) as rig:
        yield rig


async def two_pods(rig: Rig, sentinels: SentinelSet) -> tuple[Pod, Pod]:
    here, there = await rig.pod_at(sentinels.url), await rig.pod_at(sentinels.url)
    for pod in (here, there):
        await rig.sockets(pod, 5)
    return here, there


async def test_a_killed_master_costs_nothing_but_what_a_gap_tells(rig: Rig, sentinels: SentinelSet) -> None:
    here, there = await two_pods(rig, sentinels)
    old = sentinels.master
    async with rig.traffic(here, there):
        await rig.more(40, "traffic before the kill")
        old.kill()
        await rig.all_degraded()
        await until(lambda: all(pod.links > 1 and pod.is_live for pod in rig.pods), "the next master", 60)
        await rig.more(40, "traffic over the next master")
    assert sentinels.has_failed_over(old)
    await rig.clean()
    for pod in rig.pods:
        # Two sentinels may each hold an election; then the first one's master was deposed alive, perhaps just now.
        losses = [record for record in pod.records if isinstance(record, LinkChanged) and not record.live]
        doubted = {"in_doubt"} if len(losses) > 1 else set[str]()
        assert set(pod.backplane.stats().dropped) <= doubted, "the outbox held all of it"


@pytest.mark.parametrize("routing", ["broadcast"])
async def test_a_planned_failover_is_followed_although_a_sentinel_is_frozen(rig: Rig, sentinels: SentinelSet) -> None:
    here, there = await two_pods(rig, sentinels)
    old = sentinels.master
    sentinels.watchers[2].freeze()
    async with rig.traffic(here, there):
        await rig.more(40, "traffic before the failover")
        await asyncio.to_thread(sentinels.fail_over)
        await until(lambda: all(pod.links > 1 and pod.is_live for pod in rig.pods), "the next master", 60)
        await rig.more(40, "traffic over the next master")
    sentinels.watchers[2].thaw()
    assert sentinels.master is not old
    await rig.clean()


@pytest.mark.parametrize("routing", ["broadcast"])
async def test_a_master_that_wakes_after_its_replacement_keeps_nobody(rig: Rig, sentinels: SentinelSet) -> None:
    here, there = await two_pods(rig, sentinels)
    old = sentinels.master
    async with rig.traffic(here, there):
        await rig.more(40, "traffic before it freezes")
        old.freeze()
        await until(lambda: sentinels.has_failed_over(old), "the failover", 60)
        old.thaw()
        await until(lambda: all(pod.links > 1 and pod.is_live for pod in rig.pods), "the next master", 3 * PROBE_S)
        await rig.more(40, "traffic over the next master")
    await rig.clean()


async def late_pod(rig: Rig, sentinels: SentinelSet, monkeypatch: pytest.MonkeyPatch) -> tuple[Pod, asyncio.Event]:
    """Open a pod whose first link asks the sentinels only while the event is set."""
    may_ask = asyncio.Event()
    may_ask.set()

    class LateWatch(MasterWatch):
        @staticmethod
        async def _pause() -> None:
            await MasterWatch._pause()
            await may_ask.wait()

    with monkeypatch.context() as late:
        late.setattr("backplane_redis._sentinel.link.MasterWatch", LateWatch)
        return await rig.pod_at(sentinels.url), may_ask


async def left_behind(rig: Rig, sentinels: SentinelSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Detach the master from the service; one pod finds out long after the other, and both publish all the time."""
    here = await rig.pod_at(sentinels.url)
    there, may_ask = await late_pod(rig, sentinels, monkeypatch)
    for pod in (here, there):
        await rig.sockets(pod, 5)
    async with rig.traffic(here, there):
        await rig.more(int(RATE_PER_S * NEWS_S / 5), "traffic while the sentinels confirm the master")
        may_ask.clear()
        await rig.more(40, "traffic while the last question is answered")
        await asyncio.to_thread(sentinels.detach)
        await until(lambda: here.links == 2 and here.is_live, "one pod finds out", 3 * PROBE_S)
        await rig.more_published(200)
        assert there.links == 1
        assert there.is_live, "the old master still serves it"
        may_ask.set()
        await until(lambda: there.links == 2 and there.is_live, "the other finds out", 3 * PROBE_S)
        await rig.more(40, "traffic over the new master")
    await rig.settle()


async def test_pods_that_leave_a_detached_master_one_after_the_other_are_told_of_all_that_went_there(
    rig: Rig, sentinels: SentinelSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    await left_behind(rig, sentinels, monkeypatch)
    assert rig.ledger.missing > 0
    assert any(gap.cause == "sequence" for gap in rig.pods[0].gaps), "what the other sent in vain"
    assert rig.pods[1].backplane.stats().dropped["in_doubt"] >= 200
    rig.ledger.anonymous.clear()  # gaps alone tell whoever had heard of the other
    await rig.clean()


@pytest.mark.parametrize("routing", ["broadcast"])
async def test_without_holes_across_links_nobody_is_told_what_a_late_pod_sent_in_vain(
    rig: Rig, sentinels: SentinelSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(_tracker: Tracker, _channel: str, _origin: str) -> int:
        return 0

    monkeypatch.setattr(Tracker, "doubted", nothing)
    proven = SentinelLink.proven

    def never_deposed(link: SentinelLink) -> Proven:
        return evolve(proven(link), deposed=False)

    monkeypatch.setattr(SentinelLink, "proven", never_deposed)
    await left_behind(rig, sentinels, monkeypatch)
    assert len(rig.pods[0].gaps) == 1
    with pytest.raises(AssertionError, match="unexplained"):
        await rig.clean()


@pytest.mark.parametrize("routing", ["broadcast"])
@pytest.mark.parametrize("without", ["nothing", "the watch", "the doubt"])
async def test_without_the_watch_a_pod_stays_deaf_and_without_the_doubt_its_gap_begins_too_late(
    rig: Rig, sentinels: SentinelSet, monkeypatch: pytest.MonkeyPatch, without: str
) -> None:
    if without == "the doubt":
        proven = SentinelLink.proven

        def sure_now(link: SentinelLink) -> Proven:
            return evolve(proven(link), replicated_until=time.monotonic())

        monkeypatch.setattr(SentinelLink, "proven", sure_now)
    there, may_ask = await late_pod(rig, sentinels, monkeypatch)
    theirs = await rig.sockets(there, 5)
    may_ask.clear()
    await asyncio.to_thread(sentinels.detach)
    here = await rig.pod_at(sentinels.url)  # nobody has heard of it, so nobody can miss a number of it
    local = await rig.sockets(here, 1)
    async with rig.traffic(here):
        await until(lambda: len(local[0].events) > 3 * CHECK_S * RATE_PER_S, "three checks' worth", 60)
        assert there.is_live
        assert there.backplane.ready()
        assert there.gaps == []
        await rig.publish(there, 20)  # the other started since, and can't miss a number of it either
        await there.backplane.flush(timeout_s=10)  # the old master answers; that proves nothing
        if without != "the watch":
            may_ask.set()
            await rig.more(20, "the pod is back", *theirs)
            assert there.links == 2
    if without == "nothing":
        await rig.clean()
        assert there.backplane.stats().dropped["in_doubt"] >= 20
        return
    if without == "the doubt":
        await rig.settle()
    with pytest.raises(AssertionError, match="unexplained"):
        rig.ledger.assert_clean()


@pytest.mark.parametrize("routing", ["broadcast"])
async def test_without_any_sentinel_a_healthy_link_stays_as_it_is(rig: Rig, sentinels: SentinelSet) -> None:
    here, there = await two_pods(rig, sentinels)
    async with rig.traffic(here, there):
        await rig.more(40, "traffic before")
        for watcher in sentinels.watchers[:2]:
            watcher.kill()
        sentinels.watchers[2].freeze()
        # Three checks' worth, of which each socket hears a fifth.
        await rig.more(int(3 * CHECK_S * RATE_PER_S / 5), "traffic without sentinels")
    await rig.clean()
    assert [pod.links for pod in rig.pods] == [1, 1]
    assert rig.ledger.missing == 0
    assert not any(pod.gaps for pod in rig.pods)
