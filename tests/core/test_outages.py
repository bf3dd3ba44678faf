"""A broker that fails: what is told, what is counted, what is sent again, and that closing always ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

import pytest
from backplane_core import ClosedError, DistributedBackplane, Frame, Gap, Link, StateChanged, Target, TransportError
from backplane_core.testing import MemoryTransport
from backplane_core.testing._memory import MemoryLink

from tests.core.helpers import MemoryFleet, until

USER = Target.user("u1")


class DyingLink(MemoryLink):
    """Delivers what it was told to send, and dies before it says so."""

    async def send(self, frames: Sequence[Frame]) -> None:
        await super().send(frames)
        raise TransportError("the confirmation was lost")


class DyingTransport(MemoryTransport):
    """Its next links die like that, as long as it is told so."""

    dying = False

    async def open(self) -> Link:
        link = await super().open()
        if self.dying and isinstance(link, MemoryLink):
            link.__class__ = DyingLink
        return link


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
        await here.flush(0.01)
    assert here.stats().outbox_messages >= 100
    fleet.broker.restore()
    await there.wait_for_state("live", timeout_s=5)
    await here.flush(5)
    # Whoever was deaf when they went out has a gap for it; whoever was back has them all, in order.
    await until(lambda: any(gap.cause == "reconnect" for gap in far.gaps), "a gap")
    assert far.events == sorted(far.events)
    assert here.stats().dropped == {}


async def test_flush_waits_for_what_was_accepted_before_it_and_tells_how_many_are_left(fleet: MemoryFleet) -> None:
    pod = await fleet.pod()
    await pod.flush(5)
    fleet.broker.cut()
    await pod.wait_for_state("degraded", timeout_s=5)
    left = pod.stats().outbox_messages
    for number in range(7):
        await pod.publish(USER, number)
    with pytest.raises(TimeoutError, match=rf"^{left + 7} events"):
        await pod.flush(0.01)
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
    assert there.connections(USER) == {"far", "late"}
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


@pytest.mark.parametrize("target", [USER, Target.everyone()], ids=["single", "everyone"])
async def test_a_full_outbox_is_a_hole_of_exactly_that_many_told_before_the_first_newer_event(
    fleet: MemoryFleet, target: Target
) -> None:
    sender_transport = MemoryTransport(fleet.broker)
    here = await fleet.pod(sender_transport, outbox_max_messages=10, beat_s=60)
    there = await fleet.pod()
    far = await fleet.socket(there, "far", USER)
    await here.publish(target, "first")
    await far.has(1)
    await here.flush(5)
    # All in one turn of the loop: nothing can be written meanwhile.
    for number in range(25):
        here.publish_nowait(target, number)
    await far.has(11)
    here.publish_nowait(target, "last")
    await far.has(12)
    assert far.events == ["first", *range(10), "last"]
    (gap,) = far.gaps
    assert (gap.cause, gap.missed) == ("sequence", 15)
    assert far.stream[-2:] == [gap, "last"]
    assert here.stats().dropped == {"outbox": 15}
    assert there.stats().gaps["sequence"] == 1


async def test_a_lost_tail_is_noticed_by_the_beat_that_follows_it() -> None:
    fleet = MemoryFleet()
    async with fleet.stack:
        here = await fleet.pod(outbox_max_messages=10, beat_s=0.05, probe_interval_s=0.5)
        far = await fleet.socket(await fleet.pod(), "far", USER)
        await here.publish(USER, "first")
        await far.has(1)
        await here.flush(5)
        for number in range(13):
            here.publish_nowait(USER, number)
        await until(lambda: bool(far.gaps), "the gap of the tail")
        assert far.gaps[0].missed == 3
        assert far.events == ["first", *range(10)]


async def test_gaps_of_one_connection_come_at_most_once_a_second_merged() -> None:
    fleet = MemoryFleet()
    told_at: list[float] = []
    gaps: list[Gap] = []

    def on_gap(gap: Gap) -> None:
        told_at.append(time.monotonic())
        gaps.append(gap)

    async with fleet.stack:
        pod = await fleet.pod()
        await pod.attach("c1", print, on_gap=on_gap)
        frame = b'{"origin":"x","target":{"User":"nobody"},"event":1,"seq":%d,"prev":%d}'
        fleet.broker.publish(("backplane", frame % (1, 0)))
        for number in range(2, 42, 2):
            fleet.broker.publish(("backplane", frame % (number + 1, number)))
        await until(lambda: len(gaps) == 2, "the first, and the rest merged")
    assert [gap.missed for gap in gaps] == [1, 19]
    assert told_at[1] - told_at[0] >= 0.99


async def test_what_was_in_flight_is_sent_again_and_copies_are_dropped(fleet: MemoryFleet) -> None:
    transport = DyingTransport(fleet.broker)
    here, there = await fleet.pod(transport), await fleet.pod()
    far = await fleet.socket(there, "far", USER)
    await here.publish(USER, 0)
    await far.has(1)
    await here.flush(5)
    transport.dying = True
    fleet.broker.drop_links()
    await there.wait_for_state("degraded", timeout_s=5)
    await there.wait_for_state("live", timeout_s=5)
    assert await there.associate("far", USER)
    for number in range(1, 50):
        await here.publish(USER, number)
    await far.has(50)
    await until(lambda: there.stats().duplicates >= 20, "copies of what died unconfirmed")
    transport.dying = False
    await here.flush(5)
    assert far.events == list(range(50))
    assert here.stats().dropped == {}


async def test_nothing_is_sent_again_while_a_pod_that_cannot_tell_copies_is_about(fleet: MemoryFleet) -> None:
    transport = DyingTransport(fleet.broker)
    here, there = await fleet.pod(transport, origin_ttl_s=300), await fleet.pod()
    far = await fleet.socket(there, "far", USER)
    foreign = b'{"origin":"rust","target":{"User":"u1"},"event":"foreign"}'
    fleet.broker.publish((there._routing.channel((USER,)), foreign))
    fleet.broker.publish((there._routing.channel((USER,)), foreign))
    fleet.broker.publish(("backplane", b'{"origin":"rust","target":{"User":"other"},"event":1}'))
    assert await far.has(2) == ["foreign", "foreign"]
    await until(lambda: here.stats().foreign >= 1, "the foreign pod")
    assert far.gaps == []
    transport.dying = True
    fleet.broker.drop_links()
    await here.wait_for_state("degraded", timeout_s=5)
    for number in range(3):
        await here.publish(Target.user("nobody"), number)
    await until(lambda: here.stats().dropped.get("unconfirmed", 0) == 3, "what is not sent again is counted")
    transport.dying = False
    await here.wait_for_state("live", timeout_s=5)
    await here.flush(5)
    assert there.stats().duplicates == 0


@pytest.mark.parametrize("confirm_late", [1, 2])
async def test_a_gap_lasts_until_every_channel_is_heard_again(confirm_late: int) -> None:
    """With many channels to ask for again, frames of the first batch come long before the last one is heard."""
    release = asyncio.Event()
    asked = 0

    class SlowLink(MemoryLink):
        async def subscribe(self, channels: Sequence[str], *, after: str | None = None) -> None:
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
        await here.flush(5)
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
    assert len([record for record in caplog.records if "nobody listens" in record.message]) == 1


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
        await asyncio.gather(pods[0].aclose(0.05), pods[0].aclose(0.05))
        await pods[0].aclose()
        closing = asyncio.create_task(pods[1].aclose(60))
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])
        await pods[2].aclose(0)
    assert [pod.state for pod in pods] == ["closed"] * 3
    for pod in pods:
        assert pod.stats().outbox_messages == pod.stats().outbox_bytes == 0
        assert pod.stats().published == 1
    if cut:
        assert pods[0].stats().dropped["closed"] >= 1
        assert pods[2].stats().dropped["closed"] >= 1
    assert fleet.broker.links == 0
    assert fleet.broker.channels == frozenset()


async def test_closing_wakes_whoever_waits_for_it_to_flush(fleet: MemoryFleet) -> None:
    pod: DistributedBackplane = await fleet.pod()
    fleet.broker.cut()
    await pod.wait_for_state("degraded", timeout_s=5)
    await pod.publish(USER, 1)
    flushing = asyncio.create_task(pod.flush())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await pod.aclose(0)
        await asyncio.wait([flushing])
