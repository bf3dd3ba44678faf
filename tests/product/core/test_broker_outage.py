"""A broker that fails: what is told, what is counted, what is sent again, and that closing always ends."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

import pytest
from backplane_core import ClosedError, DistributedBackplane, Gap, Link, StateChanged, Target
from backplane_core.testing import Faults, FaultyTransport, MemoryTransport
from backplane_core.testing.memory import MemoryLink

from tests.support.fleets import MemoryFleet
from tests.support.waiting import until

USER = Target.user("u1")


async def test_the_states_of_an_outage_are_told_and_can_be_waited_for(fleet: MemoryFleet) -> None:
    states: list[Any] = []
    records: list[Any] = []
    pod = await fleet.pod(on_state=states.append, observer=records.append)
    with pytest.raises(TimeoutError, match="live, not degraded"):
        await pod.wait_for_state("degraded", timeout_s=0.01)
    fleet.broker.cut()
    await pod.wait_for_state("degraded", timeout_s=5)
    readiness = pod.ready()
    assert not readiness
    assert readiness.deaf_since is not None
    assert readiness.deaf_since <= time.time()
    assert readiness.reason
    fleet.broker.restore()
    await pod.wait_for_state("live", timeout_s=5)
    assert pod.ready()
    waiting = asyncio.create_task(pod.wait_for_state("degraded"))
    await asyncio.sleep(0)
    await pod.aclose()
    with pytest.raises(ClosedError):
        await waiting
    with pytest.raises(ClosedError):
        await pod.wait_for_state("live")
    await pod.wait_for_state("closed")
    assert states == ["live", "degraded", "live", "draining", "closed"]
    assert [record.state for record in records if isinstance(record, StateChanged)] == states


async def test_local_delivery_goes_on_and_what_was_accepted_is_sent_later(fleet: MemoryFleet) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    near, far = await fleet.socket(here, "near", USER), await fleet.socket(there, "far", USER)
    fleet.broker.cut()
    await here.wait_for_state("degraded", timeout_s=5)
    for number in range(100):
        assert await here.publish(USER, number) == 1
    assert near.events == list(range(100))
    with pytest.raises(TimeoutError, match=r"^\d+ events"):
        await here.flush(timeout_s=0.01)
    assert here.stats().outbox_messages >= 100
    fleet.broker.restore()
    await there.wait_for_state("live", timeout_s=5)
    await here.flush(timeout_s=5)
    # Whoever was deaf when they went out has a gap for it; whoever was back has them all, in order.
    await until(lambda: any(gap.cause == "reconnect" for gap in far.gaps), "a gap")
    assert far.events == sorted(far.events)
    assert here.stats().dropped == {}


async def test_flush_waits_for_what_was_accepted_before_it_and_tells_how_many_are_left(fleet: MemoryFleet) -> None:
    pod = await fleet.pod()
    await pod.flush(timeout_s=5)
    fleet.broker.cut()
    await pod.wait_for_state("degraded", timeout_s=5)
    left = pod.stats().outbox_messages
    for number in range(7):
        await pod.publish(USER, number)
    with pytest.raises(TimeoutError, match=rf"^{left + 7} events"):
        await pod.flush(timeout_s=0.01)
    flushing = asyncio.create_task(pod.flush())
    await asyncio.sleep(0)
    assert not flushing.done()
    fleet.broker.restore()
    async with asyncio.timeout(5):
        await flushing
    assert pod.stats().outbox_messages <= 1  # a beat at most


async def test_associating_while_the_link_is_down_is_false_at_once_and_a_gap_follows(fleet: MemoryFleet) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    far = await fleet.socket(there, "far")
    fleet.broker.cut()
    await there.wait_for_state("degraded", timeout_s=5)
    before = time.time()
    async with asyncio.timeout(1):
        assert await there.associate("far", USER) is False
    late = await fleet.stack.enter_async_context(there.connection("late", USER))
    assert there.connections_of(USER) == {"far", "late"}
    assert await there.publish(USER, "local") == 2
    fleet.broker.restore()
    await there.wait_for_state("live", timeout_s=5)
    await here.wait_for_state("live", timeout_s=5)
    assert await there.associate("far", USER) is True
    await here.publish(USER, "after")
    await far.has(2)
    first = far.stream.index(next(item for item in far.stream if isinstance(item, Gap)))
    assert far.stream[:1] == ["local"]
    assert first < far.stream.index("after")
    (gap,) = far.gaps
    assert (gap.cause, gap.missed) == ("reconnect", None)
    assert gap.since <= before <= gap.until <= time.time()
    assert late.pending >= 1


async def test_who_attached_inside_the_gap_hears_of_it_from_then_on(fleet: MemoryFleet) -> None:
    pod = await fleet.pod()
    old = await fleet.socket(pod, "old")
    fleet.broker.cut()
    await pod.wait_for_state("degraded", timeout_s=5)
    await asyncio.sleep(0.05)
    attached = time.time()
    new_gaps: list[Gap] = []
    await pod.attach("new", print, on_gap=new_gaps.append)
    fleet.broker.restore()
    await pod.wait_for_state("live", timeout_s=5)
    await until(lambda: bool(new_gaps and old.gaps), "both gaps")
    after = await fleet.socket(pod, "after")
    assert old.gaps[0].since < attached <= new_gaps[0].since <= new_gaps[0].until
    assert after.gaps == []


@pytest.mark.parametrize("confirm_late", [1, 2])
async def test_a_gap_lasts_until_every_channel_is_heard_again(confirm_late: int) -> None:
    """With many channels to ask for again, frames of the first batch come long before the last one is heard."""
    release = asyncio.Event()
    asked = 0

    class SlowLink(MemoryLink):
        async def subscribe(self, channels: Sequence[str]) -> None:
            nonlocal asked
            asked += 1
            if asked > confirm_late:
                await release.wait()
            await super().subscribe(channels)

    class SlowTransport(MemoryTransport):
        slow = False

        async def open(self) -> Link:
            link = await super().open()
            if self.slow and isinstance(link, MemoryLink):
                link.__class__ = SlowLink
            return link

    fleet = MemoryFleet("interest")
    async with fleet.stack:
        here = await fleet.pod()
        transport = SlowTransport(fleet.broker)
        there = await fleet.pod(transport)
        rooms = [Target("room", str(number)) for number in range(1_300)]
        far = await fleet.socket(there, "far", *rooms)
        transport.slow = True
        fleet.broker.drop_links()
        await here.wait_for_state("degraded", timeout_s=5)
        await here.wait_for_state("live", timeout_s=5)
        await until(lambda: asked > confirm_late, "a batch that is not confirmed")
        await here.publish(Target.everyone(), "early")
        await far.has(1)
        await here.publish(rooms[-1], "missed")
        await here.flush(timeout_s=5)
        missed_at = time.time()
        release.set()
        await there.wait_for_state("live", timeout_s=5)
        await until(lambda: far.gaps[-1].until >= missed_at, "a gap over what was missed")
        assert "missed" not in far.events


async def test_no_listener_at_all_is_one_warning_per_outage(
    fleet: MemoryFleet, caplog: pytest.LogCaptureFixture
) -> None:
    pod = await fleet.pod()
    await pod.attach("c1", print)
    with caplog.at_level(logging.WARNING, "backplane"):
        fleet.broker.drop_links()
        await pod.wait_for_state("degraded", timeout_s=5)
        await pod.wait_for_state("live", timeout_s=5)
    assert len([record for record in caplog.records if "no on_gap callback" in record.message]) == 1


@pytest.mark.parametrize("cut", [False, True], ids=["live", "cut"])
async def test_closing_twice_at_once_or_cancelled_ends_and_leaves_nothing(fleet: MemoryFleet, *, cut: bool) -> None:
    pods = [await fleet.pod() for _ in range(3)]
    if cut:
        fleet.broker.cut()
        for pod in pods:
            await pod.wait_for_state("degraded", timeout_s=5)
    for pod in pods:
        await pod.publish(USER, 1)
    async with asyncio.timeout(5):
        await asyncio.gather(pods[0].aclose(drain_s=0.05), pods[0].aclose(drain_s=0.05))
        await pods[0].aclose()
        closing = asyncio.create_task(pods[1].aclose(drain_s=60))
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])
        await pods[2].aclose(drain_s=0)
    assert [pod.state for pod in pods] == ["closed"] * 3
    for pod in pods:
        assert pod.stats().outbox_messages == pod.stats().outbox_bytes == 0
        assert pod.stats().published == 1
    if cut:
        assert pods[0].stats().dropped["closed"] >= 1
        assert pods[2].stats().dropped["closed"] >= 1
    assert fleet.broker.link_count == 0
    assert fleet.broker.channels == frozenset()


async def test_closing_wakes_whoever_waits_for_it_to_flush(fleet: MemoryFleet) -> None:
    pod: DistributedBackplane = await fleet.pod()
    fleet.broker.cut()
    await pod.wait_for_state("degraded", timeout_s=5)
    await pod.publish(USER, 1)
    flushing = asyncio.create_task(pod.flush())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await pod.aclose(drain_s=0)
        await asyncio.wait([flushing])


async def test_closing_ends_although_the_link_dies_in_the_same_turn_of_the_loop(fleet: MemoryFleet) -> None:
    pod = await fleet.pod()
    fleet.broker.drop_links()
    async with asyncio.timeout(5):
        await pod.aclose(drain_s=0)
    assert fleet.broker.link_count == 0


async def test_a_link_whose_broker_never_confirms_a_subscription_is_given_up(fleet: MemoryFleet) -> None:
    transport = FaultyTransport(fleet.broker)
    pod = await fleet.pod(transport, connect_timeout_s=0.1)
    transport.faults = Faults(hang_subscribe=1)
    transport.cut()
    await pod.wait_for_state("degraded", timeout_s=5)
    await until(lambda: "confirms no subscription" in (pod.ready().reason or ""), "the reason")
    transport.faults = Faults()
    await pod.wait_for_state("live", timeout_s=5)
