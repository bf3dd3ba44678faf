"""A sink that takes shared events and gaps by itself, events for this pod alone, and targets that need no waiting."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from attrs import define, field
from backplane_core import (
    BaseBackplane,
    ClosedByFleetError,
    ClosedError,
    Event,
    EventAttachment,
    EventEncodeError,
    EventTooLargeError,
    Gap,
    InvalidTargetError,
    ReentrantPublishError,
    Target,
)

from tests.support.fleets import MemoryFleet
from tests.support.waiting import until

USER = Target.user("u1")
FRAME = b'{"origin":"x","target":{"User":"u1"},"event":%d,"seq":%d,"prev":%d}'


@define(eq=False)
class Stream:
    """Writes down what it gets."""

    conn_id: str = "c1"
    hears_gaps: bool = True
    room: int = 100
    items: list[Event | Gap] = field(factory=list[Event | Gap])
    ends: int = 0
    closed: tuple[int, str] | None = None
    attachment: EventAttachment | None = None

    def accept(self, event: Event) -> bool:
        if len(self.items) >= self.room:
            assert self.attachment is not None
            self.attachment.end_overflowed("100 events waited")
            return False
        self.items.append(event)
        return True

    def mark(self, gap: Gap) -> None:
        self.items.append(gap)

    def close(self, order: ClosedByFleetError) -> None:
        self.closed = (order.code, order.reason)

    def end(self) -> None:
        self.ends += 1

    @property
    def shown(self) -> list[Any]:
        return [item.value if isinstance(item, Event) else f"gap of {item.missed}" for item in self.items]


async def test_all_of_them_share_each_event(backplane: BaseBackplane) -> None:
    streams = [Stream(f"c{number}") for number in range(3)]
    for stream in streams:
        await backplane.attach_events(stream, USER)
    assert await backplane.publish(USER, {"n": 1}) == 3
    assert len({id(stream.items[0]) for stream in streams}) == 1
    assert streams[0].shown == [{"n": 1}]


async def test_gaps_stand_where_events_are_missing() -> None:
    fleet, stream = MemoryFleet(), Stream()
    async with fleet.stack:
        pod = await fleet.pod()
        await pod.attach_events(stream, USER)
        for number in range(1, 12, 2):
            fleet.broker.publish(("backplane", FRAME % (number, number, number - 1)))
        await until(lambda: stream.shown and stream.shown[-1] == 11, "all have come")
    assert [item if isinstance(item, int) else "gap" for item in stream.shown] == [
        1, "gap", 3, "gap", 5, "gap", 7, "gap", 9, "gap", 11,
    ]  # fmt: skip


async def test_one_that_is_too_far_behind_ends_itself_and_is_counted(backplane: BaseBackplane) -> None:
    stream, other = Stream(room=2), Stream("c2")
    stream.attachment = await backplane.attach_events(stream, USER)
    await backplane.attach_events(other, USER)
    assert [await backplane.publish(USER, number) for number in range(4)] == [2, 2, 1, 1]
    assert (stream.shown, stream.ends, other.shown) == ([0, 1], 1, [0, 1, 2, 3])
    stats = backplane.stats()
    assert (stats.overflowed, stats.gaps["overflow"], stats.connections) == (1, 1, 1)


async def test_one_that_drops_an_event_counts_it_and_goes_on_with_the_gap(backplane: BaseBackplane) -> None:
    stream = Stream()
    attachment = await backplane.attach_events(stream, USER)
    gap = attachment.count_overflow("it was full")
    earlier = attachment.count_overflow("it was old", waited_s=60.0)
    assert (gap.cause, gap.reason, gap.missed, gap.is_open) == ("overflow", "it was full", 1, False)
    assert gap.since <= gap.until
    assert 59.0 < gap.since - earlier.since < 61.0
    assert gap.merge(earlier).missed == 2
    await backplane.publish(USER, 1)
    assert stream.shown == [1]
    assert backplane.stats().overflowed == 2


async def test_one_that_takes_an_id_over_ends_the_other_and_gets_nothing_of_its_targets(
    backplane: BaseBackplane,
) -> None:
    first, second = Stream(), Stream()
    attachment = await backplane.attach_events(first, USER)
    await backplane.attach_events(second, Target.user("u2"))
    assert first.ends == 1
    assert await backplane.publish(USER, 1) == 0
    attachment.detach_nowait()
    await attachment.detach()
    assert await backplane.publish(Target.user("u2"), 2) == 1
    assert (first.shown, second.shown) == ([], [2])


async def test_a_drain_ends_it(backplane: BaseBackplane) -> None:
    stream = Stream()
    await backplane.attach_events(stream, USER)
    await backplane.drain(timeout_s=5)
    assert stream.ends == 1
    with pytest.raises(ClosedError):
        await backplane.attach_events(Stream("c2"), USER)


async def test_what_is_no_target_attaches_nothing(backplane: BaseBackplane) -> None:
    wrong: Any = "u1"
    with pytest.raises(InvalidTargetError):
        await backplane.attach_events(Stream(), USER, wrong)
    assert backplane.connection_count == 0


# For this pod alone


async def test_an_event_for_this_pod_reaches_no_other(fleet: MemoryFleet) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    near, far = Stream(), Stream("c2")
    await here.attach_events(near, USER)
    await there.attach_events(far, USER)
    assert here.publish_local([USER, Target.org("o")], "here") == 1
    assert here.publish_local(USER, "not here", exclude=["c1"]) == 0
    assert await here.publish(USER, "everywhere") == 1
    await until(lambda: far.items, "the other pod has it")
    assert (near.shown, far.shown) == (["here", "everywhere"], ["everywhere"])
    assert (here.stats().published, here.stats().delivered) == (1, 2)


async def test_an_event_for_this_pod_is_refused_as_any_other_is(backplane: BaseBackplane) -> None:
    with pytest.raises(EventEncodeError):
        backplane.publish_local(USER, object())
    with pytest.raises(InvalidTargetError):
        backplane.publish_local([], 1)
    with pytest.raises(EventTooLargeError):
        backplane.publish_local(USER, "x" * 1024 * 1024)
    raised: list[Exception] = []

    def sink(_: Any) -> None:
        try:
            backplane.publish_local(USER, 1)
        except ReentrantPublishError as error:
            raised.append(error)

    await backplane.attach("c1", sink)
    assert backplane.publish_local(Target.connection("c1"), 1) == 1
    assert len(raised) == 1
    await backplane.drain(timeout_s=5)
    with pytest.raises(ClosedError):
        backplane.publish_local(USER, 1)


# Targets that need no waiting


async def test_a_target_is_added_at_once_and_a_gap_covers_the_time_until_it_is_heard(fleet: MemoryFleet) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    stream = Stream()
    await there.attach_events(stream)
    assert there.associate_nowait("c1", USER) is True
    assert there.publish_local(USER, "at once") == 1
    if fleet.routing == "interest":
        await until(lambda: "gap of None" in stream.shown, "the gap is reported")
    await here.publish(USER, "later")
    await until(lambda: "later" in stream.shown, "it is heard")
    assert stream.shown == ["at once", *(["gap of None"] if fleet.routing == "interest" else []), "later"]


async def test_an_unknown_connection_gets_no_target(backplane: BaseBackplane) -> None:
    assert backplane.associate_nowait("nobody", USER) is False
    assert backplane.stats().unknown_connections == 1
    assert backplane.stats().targets == 0


# A pod that is deaf for long


async def test_a_deaf_pod_notifies_its_connections_while_it_is_deaf() -> None:
    fleet = MemoryFleet()
    async with fleet.stack:
        pod = await fleet.pod(stale_after_s=0.05)
        stream, bare = Stream(), list[Gap]()
        await pod.attach_events(stream, USER)
        await pod.attach("bare", lambda _: None, on_gap=bare.append)
        async with pod.connection("ends", USER, end_on_gap=True) as ending:
            fleet.broker.cut()
            await until(lambda: stream.items and bare, "both know that the pod is deaf")
            (gap,) = stream.items
            assert isinstance(gap, Gap)
            assert (gap.is_open, gap.cause) == (True, "reconnect")
            assert bare[0].is_open
            late = Stream("late")
            await pod.attach_events(late, USER)
            await until(lambda: late.items, "one that came later knows it too")
            await asyncio.sleep(0.1)
            assert len(stream.items) == len(late.items) == 1, "once per outage"
            assert pod.connection_count == 4, "an open gap ends nobody"
            assert pod.stats().gaps.get("reconnect", 0) == 0
            fleet.broker.restore()
            await until(lambda: len(stream.items) == 2, "the outage is over")
            await ending.ended()
        last = stream.items[1]
        assert isinstance(last, Gap)
        assert not last.is_open
        assert last.since <= gap.since + 0.001
        assert last.until >= gap.until


async def test_a_short_outage_and_a_pod_that_is_not_to_say_so_notify_nobody() -> None:
    fleet = MemoryFleet()
    async with fleet.stack:
        patient, silent = await fleet.pod(stale_after_s=60), await fleet.pod(stale_after_s=0)
        streams = [Stream(), Stream()]
        await patient.attach_events(streams[0], USER)
        await silent.attach_events(streams[1], USER)
        fleet.broker.drop_links()
        await until(lambda: all(stream.items for stream in streams), "both were notified")
        assert [[getattr(item, "is_open", None) for item in stream.items] for stream in streams] == [[False], [False]]
