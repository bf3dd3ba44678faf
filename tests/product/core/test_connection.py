"""One socket's bounded queue: what it yields, what it does when nobody reads, and how it ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from backplane_core import (
    BaseBackplane,
    ClosedError,
    ConfigurationError,
    Connection,
    Event,
    Gap,
    InvalidTargetError,
    Overflow,
    SlowConsumerError,
    Target,
)

from tests.support.waiting import until

USER = Target.user("u1")


async def read(connection: Connection, count: int, into: list[Any] | None = None) -> list[Any]:
    values: list[Any] = [] if into is None else into
    async with asyncio.timeout(5):
        for _ in range(count):
            values.append((await anext(connection)).value)  # noqa: PERF401 -- gaps are appended meanwhile
    return values


async def test_events_of_all_its_targets_are_yielded_in_order(backplane: BaseBackplane) -> None:
    async with backplane.connection("c1", USER, Target.org("acme")) as connection:
        await backplane.publish(USER, 1)
        await backplane.publish(Target.org("acme"), 2)
        await backplane.publish(Target.connection("c1"), 3)
        await backplane.publish(Target.user("u2"), "not for us")
        await backplane.publish(Target.everyone(), 4)
        assert (connection.pending, connection.pending_bytes) == (4, 4)
        assert await read(connection, 4) == [1, 2, 3, 4]
        assert (connection.pending, connection.pending_bytes) == (0, 0)
    assert backplane.connection_count == 0
    assert backplane.stats().targets == 0


async def test_close_yields_what_was_queued_then_says_that_the_consumer_was_slow(backplane: BaseBackplane) -> None:
    async with backplane.connection("c1", USER, max_pending=2) as connection:
        assert [await backplane.publish(USER, number) for number in range(2)] == [1, 1]
        assert backplane.connection_count == 1
        assert await backplane.publish(USER, 2) == 0
        assert backplane.connection_count == 0
        assert backplane.stats().targets == 0
        assert await read(connection, 2) == [0, 1]
        for _ in range(2):
            with pytest.raises(SlowConsumerError):
                await anext(connection)


async def test_close_counts_bytes_too(backplane: BaseBackplane) -> None:
    async with backplane.connection("c1", USER, max_pending_bytes=10) as connection:
        assert await backplane.publish(USER, "x" * 8) == 1
        assert await backplane.publish(USER, 1) == 0
        assert await read(connection, 1) == ["x" * 8]
        with pytest.raises(SlowConsumerError):
            await anext(connection)


@pytest.mark.parametrize("max_pending", [{"max_pending": 3}, {"max_pending_bytes": 3}], ids=str)
@pytest.mark.parametrize(
    ("overflow", "expected"),
    [("drop_oldest", ["gap of 3", 3, 4, 5, 6]), ("drop_newest", [0, 1, 2, "gap of 3", 6])],
)
async def test_dropped_events_are_a_gap_where_they_were(
    backplane: BaseBackplane, overflow: Overflow, expected: list[Any], max_pending: dict[str, int]
) -> None:
    stream: list[Any] = []
    gaps: list[Gap] = []

    def on_gap(gap: Gap) -> None:
        gaps.append(gap)
        stream.append(f"gap of {gap.missed}")

    async with backplane.connection(
        "c1", USER, overflow=overflow, on_gap=on_gap, max_pending=max_pending.get("max_pending", 1_000),
        max_pending_bytes=max_pending.get("max_pending_bytes", 1_000)
    ) as connection:  # fmt: skip
        for number in range(6):
            await backplane.publish(USER, number)
        await read(connection, 3, stream)
        await backplane.publish(USER, 6)
        await read(connection, 1, stream)
    assert stream == expected
    assert (gaps[0].cause, gaps[0].channel) == ("overflow", "connection:c1")
    assert gaps[0].since <= gaps[0].until
    assert backplane.stats().overflowed == 3
    assert backplane.stats().gaps["overflow"] >= 1


async def test_two_holes_with_an_event_between_are_two_gaps(backplane: BaseBackplane) -> None:
    stream: list[Any] = []
    async with backplane.connection(
        "c1", USER, overflow="drop_newest", max_pending=2, on_gap=lambda gap: stream.append(("gap", gap.missed))
    ) as connection:
        for number in range(4):
            await backplane.publish(USER, number)
        await read(connection, 1, stream)
        for number in range(4, 7):
            await backplane.publish(USER, number)
        await read(connection, 2, stream)
        await backplane.publish(USER, 7)
        await read(connection, 1, stream)
    assert stream == [0, 1, ("gap", 2), 4, ("gap", 2), 7]
    assert backplane.stats().overflowed == 4


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
async def test_an_event_that_could_never_fit_is_told_at_once_and_pushes_nothing_out(
    backplane: BaseBackplane, overflow: Overflow
) -> None:
    stream: list[Any] = []
    async with backplane.connection(
        "c1", USER, overflow=overflow, max_pending_bytes=10, on_gap=lambda gap: stream.append(("gap", gap.missed))
    ) as connection:
        reader = asyncio.create_task(read(connection, 3, stream))
        await asyncio.sleep(0)  # it waits now, and only being woken helps it
        await backplane.publish(USER, "x" * 100)
        await until(lambda: stream == [("gap", 1)], "the gap, before any later event")
        for event in (1, 2, "y" * 100, 3):
            await backplane.publish(USER, event)
        await reader
    assert [item for item in stream if isinstance(item, int)] == [1, 2, 3]
    assert backplane.stats().overflowed == 2


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
async def test_what_was_dropped_is_counted_although_nobody_reads_on(
    backplane: BaseBackplane, overflow: Overflow
) -> None:
    async with backplane.connection("c1", USER, overflow=overflow, max_pending=1):
        for number in range(5):
            await backplane.publish(USER, number)
    assert backplane.stats().overflowed == 4


async def test_a_second_reader_is_refused(backplane: BaseBackplane) -> None:
    async with backplane.connection("c1") as connection:
        first = asyncio.create_task(read(connection, 1))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="one reader"):
            await anext(connection)
        await backplane.publish(Target.connection("c1"), 1)
        assert await first == [1]


async def test_a_cancelled_iteration_loses_no_event(backplane: BaseBackplane) -> None:
    got: list[Any] = []
    async with backplane.connection("c1", USER) as connection:
        for number in range(200):
            reader: asyncio.Task[Event] = asyncio.ensure_future(anext(connection))
            await asyncio.sleep(0)
            await backplane.publish(USER, number)
            # Woken and cancelled in the same turn: that is where one would be lost.
            reader.cancel()
            try:
                got.append((await reader).value)
            except asyncio.CancelledError:
                got += await read(connection, connection.pending)
    assert got == list(range(200))


async def test_leaving_detaches_also_when_the_body_raises_or_is_cancelled(backplane: BaseBackplane) -> None:
    with pytest.raises(ZeroDivisionError):
        async with backplane.connection("c1", USER):
            _ = 1 / 0
    inside = asyncio.Event()

    async def wait() -> None:
        async with backplane.connection("c1", USER):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await inside.wait()
    task.cancel()
    await asyncio.wait([task])
    assert (backplane.connection_count, backplane.stats().targets) == (0, 0)


async def test_a_connection_is_entered_once(backplane: BaseBackplane) -> None:
    connection = backplane.connection("c1")
    with pytest.raises(ClosedError, match="enter"):
        await anext(connection)
    async with connection:
        with pytest.raises(ClosedError):
            await connection.__aenter__()
        assert backplane.connection_count == 1
    with pytest.raises(ClosedError):
        await connection.__aenter__()
    assert [event async for event in connection] == []


async def test_an_id_is_made_up_where_none_is_given(backplane: BaseBackplane) -> None:
    async with backplane.connection(None, USER) as one, backplane.connection() as other:
        assert one.conn_id
        assert one.conn_id != other.conn_id
        assert backplane.connections_of(USER) == {one.conn_id}


async def test_a_target_in_the_ids_place_is_refused_with_the_way_out(backplane: BaseBackplane) -> None:
    with pytest.raises(InvalidTargetError, match=r"connection\(None, target\)"):
        backplane.connection(USER)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] -- the mistake it is about


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"overflow": "block"}, "drop_oldest"),
        ({"max_pending": 0}, "max_pending"),
        ({"max_pending": -1}, "max_pending"),
        ({"max_pending": "5"}, "max_pending"),
        ({"max_pending_bytes": 0}, "max_pending_bytes"),
    ],
    ids=str,
)
async def test_a_wrong_bound_or_policy_is_a_configuration_error(
    backplane: BaseBackplane, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named):
        backplane.connection("c1", **options)


@pytest.mark.parametrize("end", ["drain", "aclose", "replace", "detach"])
async def test_it_ends_without_an_error_after_what_was_queued(backplane: BaseBackplane, end: str) -> None:
    async with backplane.connection("c1", USER) as connection:
        for number in range(2):
            await backplane.publish(USER, number)
        waiting = asyncio.create_task(read(connection, 2))
        assert await waiting == [0, 1]
        await backplane.publish(USER, 2)
        values: list[Any] = []

        async def rest() -> None:
            values.extend([event.value async for event in connection])

        reader = asyncio.create_task(rest())
        await asyncio.sleep(0)
        if end == "drain":
            await backplane.drain(timeout_s=5)
        elif end == "aclose":
            await backplane.aclose()
        elif end == "replace":
            await backplane.attach("c1", print)
        else:
            await backplane.detach("c1")
        async with asyncio.timeout(5):
            await reader
        assert values == [2]
    # Leaving it detaches nobody who came after.
    assert backplane.connection_count == (1 if end == "replace" else 0)
