"""A connection's stream with its gaps in it, the moment at which it ends, and how old an event may get in it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from backplane_core import (
    BaseBackplane,
    ClosedError,
    ConfigurationError,
    Connection,
    Event,
    Gap,
    GapError,
    Record,
    SlowConsumerError,
    Target,
)

from tests.support.fleets import MemoryFleet
from tests.support.inside import take

USER = Target.user("u1")
FRAME = b'{"origin":"x","target":{"User":"u1"},"event":%d,"seq":%d,"prev":%d}'


def shown(item: Event | Gap) -> Any:
    return item.value if isinstance(item, Event) else f"gap of {item.missed}, {item.cause}"


async def read(connection: Connection, count: int) -> list[Any]:
    items = connection.items()
    async with asyncio.timeout(5):
        return [shown(await anext(items)) for _ in range(count)]


# Items


async def test_items_are_events_and_gaps_in_stream_order() -> None:
    fleet = MemoryFleet()
    async with fleet.stack:
        pod = await fleet.pod()
        async with pod.connection("c1", USER) as connection:
            fleet.broker.publish(("backplane", FRAME % (1, 1, 0)))
            fleet.broker.publish(("backplane", FRAME % (2, 2, 1)))
            fleet.broker.publish(("backplane", FRAME % (9, 9, 8)))
            assert await read(connection, 4) == [1, 2, "gap of 6, sequence", 9]


async def test_each_of_fifty_thousand_holes_stands_before_the_event_behind_it(*, full: bool) -> None:
    """Among more connections than are notified of a hole at once; without `--full` there are 5,000 holes."""
    holes = 50_000 if full else 5_000
    fleet = MemoryFleet()
    async with fleet.stack:
        pod = await fleet.pod()
        for number in range(20):
            await pod.attach(f"other {number}", print, on_gap=lambda _: None)
        async with pod.connection("c1", USER, max_pending=2 * holes, max_pending_bytes=1 << 30) as connection:
            await take(pod, [("backplane", FRAME % (0, 1, 0))])
            await take(pod, [("backplane", FRAME % (n, 3 * n + 1, 3 * n)) for n in range(1, holes + 1)])
            items = connection.items()
            assert shown(await anext(items)) == 0
            for number in range(1, holes + 1):
                assert shown(await anext(items)) == "gap of 2, sequence"
                assert shown(await anext(items)) == number


async def test_items_hold_what_a_full_queue_dropped(backplane: BaseBackplane) -> None:
    async with backplane.connection("c1", USER, max_pending=2, overflow="drop_newest") as connection:
        for number in range(4):
            await backplane.publish(USER, number)
        assert await read(connection, 3) == [0, 1, "gap of 2, overflow"]
        assert backplane.stats().gaps["overflow"] == 1


async def test_a_gap_that_ends_the_connection_is_the_last_item() -> None:
    fleet = MemoryFleet()
    async with fleet.stack:
        pod = await fleet.pod()
        async with pod.connection("c1", USER, end_on_gap=True) as connection:
            fleet.broker.publish(("backplane", FRAME % (1, 1, 0)))
            fleet.broker.publish(("backplane", FRAME % (9, 9, 8)))
            items = connection.items()
            assert [shown(await anext(items)) for _ in range(2)] == [1, "gap of 7, sequence"]
            with pytest.raises(GapError):
                await anext(items)


async def test_a_cancelled_wait_for_an_item_loses_nothing(backplane: BaseBackplane) -> None:
    async with backplane.connection("c1", USER) as connection:
        items = connection.items()
        for number in range(20):
            reading = asyncio.ensure_future(anext(items))
            await asyncio.sleep(0)
            await backplane.publish(USER, number)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            assert shown(await anext(items)) == number


# The end


async def ends(connection: Connection) -> None:
    async with asyncio.timeout(5):
        await connection.ended()


async def test_the_end_is_known_at_the_moment_of_overflow_though_nobody_reads(backplane: BaseBackplane) -> None:
    async with backplane.connection("c1", USER, max_pending=1) as connection:
        waiting = asyncio.create_task(ends(connection))
        await asyncio.sleep(0)
        await backplane.publish(USER, 1)
        await asyncio.sleep(0)
        assert not waiting.done()
        await backplane.publish(USER, 2)
        await waiting
        assert connection.pending == 1
        await ends(connection)


async def test_the_end_is_known_when_the_backplane_drains(backplane: BaseBackplane) -> None:
    async with backplane.connection("c1", USER) as connection:
        waiting = asyncio.create_task(ends(connection))
        await asyncio.sleep(0)
        await backplane.drain(timeout_s=5)
        await waiting


async def test_the_end_is_known_when_another_takes_the_id(backplane: BaseBackplane) -> None:
    async with backplane.connection("c1", USER) as first:
        waiting = asyncio.create_task(ends(first))
        await asyncio.sleep(0)
        async with backplane.connection("c1", USER):
            await waiting


async def test_who_was_never_there_has_no_end(backplane: BaseBackplane) -> None:
    with pytest.raises(ClosedError, match="enter the connection first"):
        await backplane.connection("c1", USER).ended()


# Overflow under the default policy


async def test_an_overflow_that_ends_a_connection_is_counted_recorded_and_logged_as_one(
    backplane: BaseBackplane, caplog: pytest.LogCaptureFixture
) -> None:
    records: list[Record] = []
    logs = backplane.observer
    assert logs is not None

    def observe(record: Record) -> None:
        records.append(record)
        logs(record)
        # After the fan-out: else this would be refused.
        backplane.publish_nowait(Target.user("u2"), "seen")

    async with backplane.connection("c1", USER, max_pending=1):
        await backplane.publish(USER, 1)
        backplane.observer = observe
        await backplane.publish(USER, 2)
        await backplane.publish(USER, 3)
    stats = backplane.stats()
    assert (stats.overflowed, stats.gaps["overflow"], stats.observer_errors) == (1, 1, 0)
    (gap,) = records
    assert isinstance(gap, Gap)
    assert (gap.cause, gap.channel) == ("overflow", "connection:c1")
    assert [(it.levelno, "overflow" in it.message) for it in caplog.records if "c1" in it.message] == [
        (logging.WARNING, True)
    ]


# Age


async def test_a_connection_that_nobody_reads_ends_by_age_though_no_other_event_comes(backplane: BaseBackplane) -> None:
    async with backplane.connection("c1", USER, max_age_s=0.05) as connection:
        await backplane.publish(USER, 1)
        await ends(connection)
        assert backplane.connection_count == 0
        assert backplane.stats().overflowed == 1
        assert (await anext(connection)).value == 1
        with pytest.raises(SlowConsumerError, match=r"waited 0\.05 s"):
            await anext(connection)


async def test_a_connection_that_is_read_lives_longer_than_its_events_may_wait(backplane: BaseBackplane) -> None:
    async with backplane.connection("c1", USER, max_age_s=0.4) as slow, backplane.connection("c2", USER) as clock:
        beginning = asyncio.get_running_loop().time()
        number = 0
        while asyncio.get_running_loop().time() < beginning + 1:
            await backplane.publish(USER, number)
            assert (await anext(slow)).value == (await anext(clock)).value == number
            number += 1
            await asyncio.sleep(0.01)
        assert backplane.connection_count == 2


@pytest.mark.parametrize("age", [0, -1, True, "5", float("inf"), float("nan")])
async def test_an_age_that_is_none_is_refused(backplane: BaseBackplane, age: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_age_s"):
        backplane.connection("c1", USER, max_age_s=age)


async def test_an_age_goes_with_the_end_alone(backplane: BaseBackplane) -> None:
    with pytest.raises(ConfigurationError, match="max_age_s needs overflow='close'"):
        backplane.connection("c1", USER, max_age_s=5, overflow="drop_oldest")


# The target


@pytest.mark.parametrize("exclude", [[], ["nobody"]])
async def test_an_event_says_to_which_target_it_was_published(
    backplane: BaseBackplane, fleet: MemoryFleet, exclude: list[str]
) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    ways = [USER, Target.org("o"), Target.everyone(), Target.connection("c1"), Target("a_room", 'ü"')]
    for publisher, pod in ((here, there), (backplane, backplane)):
        async with pod.connection("c1", *ways) as connection:
            for target in ways:
                await publisher.publish(target, 1, exclude=exclude)
                assert (await anext(connection)).target == target


async def test_an_event_to_a_union_has_the_first_target_of_each_connection(
    backplane: BaseBackplane, fleet: MemoryFleet
) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    union = [Target.org("nobody"), USER, Target.org("o"), Target.connection("c3")]
    for publisher, pod in ((here, there), (backplane, backplane)):
        async with (
            pod.connection("c1", Target.org("o"), USER) as first,
            pod.connection("c2", Target.org("o")) as second,
            pod.connection("c3") as third,
        ):
            await publisher.publish(union, 1)
            events = [await anext(connection) for connection in (first, second, third)]
            assert [event.target for event in events] == union[1:]


async def test_an_event_that_was_made_by_hand_has_no_target() -> None:
    assert Event(b"1").target is None


# A sink that only begins its work


async def test_a_sink_that_returns_a_coroutine_is_a_sink_error(backplane: BaseBackplane) -> None:
    async def begin() -> None:
        raise AssertionError("nobody awaits it")

    def send(_: Any) -> Any:
        return begin()

    records: list[Record] = []
    backplane.observer = records.append
    await backplane.attach("c1", send)
    assert await backplane.publish(Target.connection("c1"), 1) == 0
    assert backplane.stats().sink_errors == 1
    assert "coroutine" in str(records)
