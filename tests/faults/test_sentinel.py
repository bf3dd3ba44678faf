"""Sentinel: a master killed, replaced, frozen or cut off; its pods find the next one, and every loss lies in a Gap."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest
from backplane_core import Doubt
from backplane_redis import sentinel
from backplane_redis.sentinel import SentinelLink

from tests.brokers import BrokerUnavailable
from tests.brokers.sentinels import SentinelSet
from tests.conftest import skip_or_fail
from tests.faults.rig import Pod, Rig
from tests.pods.fleet import until

PROBE_S = 5.0
SLOW_S = 3.0
TOLD_S = 3.0
RATE_PER_S = 500


@pytest.fixture
def sentinels() -> Iterator[SentinelSet]:
    try:
        with SentinelSet() as sentinels:
            yield sentinels
    except BrokerUnavailable as error:
        skip_or_fail(error)


@pytest.fixture
async def rig(leaves_nothing: None, sentinels: SentinelSet, routing: str, channel: str) -> AsyncIterator[Rig]:
    options = {"channel": channel, "routing": routing, "probe_interval_s": PROBE_S}
    async with Rig(sentinels.master, options) as rig:
        yield rig


async def clean(rig: Rig) -> None:
    """Wait until all that happened was told, and assert that it explains all that is missing."""
    await rig.settle()

    def explained() -> bool:
        return not any(rig.ledger.verdict(witness).faults() for witness in rig.ledger.witnesses)

    with suppress(AssertionError):  # it says below what is wrong
        await until(explained, "the last hole at each socket: a second after the gap before it", TOLD_S)
    rig.ledger.assert_clean()


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
        await until(lambda: all(pod.links == 2 and pod.is_live for pod in rig.pods), "the next master", 60)
        await rig.more(40, "traffic over the next master")
    assert sentinels.failed_over(old)
    await clean(rig)
    for pod in rig.pods:
        assert pod.backplane.stats().dropped == {}, "the outbox held all of it"


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
    await clean(rig)


@pytest.mark.parametrize("routing", ["broadcast"])
async def test_a_master_that_wakes_after_its_replacement_keeps_nobody(rig: Rig, sentinels: SentinelSet) -> None:
    here, there = await two_pods(rig, sentinels)
    old = sentinels.master
    async with rig.traffic(here, there):
        await rig.more(40, "traffic before it freezes")
        old.freeze()
        await until(lambda: sentinels.failed_over(old), "the failover", 60)
        old.thaw()
        await until(lambda: all(pod.links > 1 and pod.is_live for pod in rig.pods), "the next master", 3 * PROBE_S)
        await rig.more(40, "traffic over the next master")
    await clean(rig)


async def left_behind(rig: Rig, sentinels: SentinelSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Detach the master from the service; one pod finds out seconds after the other, and both publish all the time."""
    here = await rig.pod_at(sentinels.url)
    with monkeypatch.context() as slow:
        slow.setattr(sentinel, "CHECK_S", SLOW_S)
        there = await rig.pod_at(sentinels.url)
    for pod in (here, there):
        await rig.sockets(pod, 5)
    async with rig.traffic(here, there):
        await rig.more(40, "traffic before")
        await until(lambda: time.time() > rig.ledger.witnesses[0].since + 2 * SLOW_S, "the sentinels confirm", 30)
        await asyncio.to_thread(sentinels.detach)
        await until(lambda: here.links == 2 and here.is_live, "one pod finds out", 3 * PROBE_S)
        assert there.links == 1
        assert there.is_live, "the old master still serves it"
        await until(lambda: there.links == 2 and there.is_live, "the other finds out", 3 * PROBE_S)
        await rig.more(40, "traffic over the new master")
    await rig.settle()


async def test_pods_that_leave_a_detached_master_one_after_the_other_are_told_of_all_that_went_there(
    rig: Rig, sentinels: SentinelSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    await left_behind(rig, sentinels, monkeypatch)
    assert rig.ledger.missing > 0
    assert any(gap.cause == "sequence" for gap in rig.pods[0].gaps), "what the other sent in vain"
    await clean(rig)


@pytest.mark.parametrize("routing", ["broadcast"])
@pytest.mark.parametrize("doubts", ["since", "holes"])
async def test_without_its_doubts_a_deposed_master_loses_events_that_no_gap_tells(
    rig: Rig, sentinels: SentinelSet, monkeypatch: pytest.MonkeyPatch, doubts: str
) -> None:
    if doubts == "since":
        monkeypatch.setattr(SentinelLink, "doubt", lambda _: Doubt(since=time.monotonic()))
    else:
        monkeypatch.delattr(SentinelLink, "doubt")
    await left_behind(rig, sentinels, monkeypatch)
    with pytest.raises(AssertionError, match="unexplained"):
        await clean(rig)


@pytest.mark.parametrize("routing", ["broadcast"])
@pytest.mark.parametrize("watch", [True, False], ids=["on", "off"])
async def test_without_the_watch_a_pod_at_a_detached_master_stays_deaf_and_calls_itself_live(
    rig: Rig, sentinels: SentinelSet, monkeypatch: pytest.MonkeyPatch, *, watch: bool
) -> None:
    if not watch:

        async def idle(_: SentinelLink) -> None: ...

        monkeypatch.setattr(SentinelLink, "_watch", idle)
    there = await rig.pod_at(sentinels.url)
    theirs = await rig.sockets(there, 5)
    await asyncio.to_thread(sentinels.detach)
    here = await rig.pod_at(sentinels.url)
    local = await rig.sockets(here, 1)
    async with rig.traffic(here):
        # Five checks' worth.
        await until(lambda: len(local[0].events) > 5 * sentinel.CHECK_S * RATE_PER_S, "time passes", 60)
        if watch:
            await rig.more(20, "the pod is back", *theirs)
    if watch:
        assert there.links == 2
        await clean(rig)
    else:
        assert there.is_live
        assert there.backplane.ready()
        assert there.gaps == []
        assert rig.ledger.missing > 0
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
        # Four checks' worth, of which each socket hears a fifth.
        await rig.more(int(4 * sentinel.CHECK_S * RATE_PER_S / 5), "traffic without sentinels")
    await clean(rig)
    assert [pod.links for pod in rig.pods] == [1, 1]
    assert rig.ledger.missing == 0
    assert not any(pod.gaps for pod in rig.pods)
