"""What did not arrive: holes are told exactly, in their place, and what was in flight is sent again."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from backplane_core import Frame, Gap, Link, Target, TransportError
from backplane_core.testing import MemoryTransport
from backplane_core.testing.memory import MemoryLink

from tests.support.fleets import MemoryFleet
from tests.support.inside import channel_of
from tests.support.waiting import until

USER = Target.user("u1")


class DyingLink(MemoryLink):
    """Delivers what it was told to send, and dies of every event before it says so."""

    async def send(self, frames: Sequence[Frame]) -> None:
        await super().send(frames)
        if all(frame[1].endswith(b'"fleet":{"level":1}}') for frame in frames):  # beats and questions
            return
        raise TransportError("the confirmation was lost")


class DyingTransport(MemoryTransport):
    """Its next links die like that, as long as it is told so."""

    dying = False

    async def open(self) -> Link:
        link = await super().open()
        if self.dying and isinstance(link, MemoryLink):
            link.__class__ = DyingLink
        return link


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
    await here.flush(timeout_s=5)
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
        await here.flush(timeout_s=5)
        for number in range(13):
            here.publish_nowait(USER, number)
        await until(lambda: bool(far.gaps), "the gap of the tail")
        assert far.gaps[0].missed == 3
        assert far.events == ["first", *range(10)]


async def test_gaps_of_one_connection_come_at_most_once_a_second_merged() -> None:
    fleet = MemoryFleet()
    reported_at: list[float] = []
    gaps: list[Gap] = []

    def on_gap(gap: Gap) -> None:
        reported_at.append(time.monotonic())
        gaps.append(gap)

    async with fleet.stack:
        pod = await fleet.pod()
        await pod.attach("c1", print, on_gap=on_gap)
        frame = b'{"origin":"x","target":{"User":"nobody"},"event":1,"seq":%d,"prev":%d}'
        fleet.broker.publish(("backplane", frame % (1, 0)))
        for number in range(2, 42, 2):
            fleet.broker.publish(("backplane", frame % (number + 1, number)))
            if number == 2:
                await until(lambda: gaps, "the first")
        await until(lambda: len(gaps) == 2, "the first, and the rest merged")
    assert [gap.missed for gap in gaps] == [1, 19]
    assert reported_at[1] - reported_at[0] >= 0.99


async def test_what_was_in_flight_is_sent_again_and_copies_are_dropped(fleet: MemoryFleet) -> None:
    transport = DyingTransport(fleet.broker)
    here, there = await fleet.pod(transport), await fleet.pod()
    far = await fleet.socket(there, "far", USER)
    await here.publish(USER, 0)
    await far.has(1)
    await here.flush(timeout_s=5)
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
    await here.flush(timeout_s=5)
    assert far.events == list(range(50))
    assert here.stats().dropped == {}


async def test_nothing_is_sent_again_while_a_pod_that_cannot_tell_copies_is_about(fleet: MemoryFleet) -> None:
    transport = DyingTransport(fleet.broker)
    here, there = await fleet.pod(transport, origin_ttl_s=300), await fleet.pod()
    far = await fleet.socket(there, "far", USER)
    foreign = b'{"origin":"rust","target":{"User":"u1"},"event":"foreign"}'
    fleet.broker.publish((channel_of(there, USER), foreign))
    fleet.broker.publish((channel_of(there, USER), foreign))
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
    await here.flush(timeout_s=5)
    assert there.stats().duplicates == 0
