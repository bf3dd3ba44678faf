"""Many connections are told of a gap in slices: the loop has its turns meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import pytest
from backplane_core import Gap, GapCallback
from backplane_core._inbound.coverage import Coverage
from backplane_core._inbound.gap_notifier import GapNotifier
from backplane_core._inbound.slices import SLICE_ENTRIES, SLICE_S
from backplane_core._inbound.subscriptions import Subscriptions
from backplane_core._inbound.watermark import Watermark
from backplane_core._local.entry import Entry
from backplane_core._local.registry import Registry
from backplane_core._protocol.routing import make_routing
from backplane_core._runtime.reporter import Reporter
from backplane_core._runtime.system import System

T = TypeVar("T")

TELL_S = 0.0001
"""What telling one connection costs on the clock of these tests."""
MOST_AT_ONCE = SLICE_S / TELL_S + SLICE_ENTRIES


class Clock:
    """Stands still but for what telling costs."""

    def __init__(self) -> None:
        self.now = 100.0

    def surroundings(self) -> System:
        return System(monotonic=lambda: self.now, wall=lambda: self.now)


class SlowReporter(Reporter):
    """Takes its time for each call of a host's callback.

    Args:
        clock: Shows how long.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def notify(self, callback: Callable[[T], None], argument: T) -> None:
        self.clock.now += TELL_S
        callback(argument)


def entry(number: int, on_gap: GapCallback, since: float = 0.0) -> Entry:
    return Entry(conn_id=f"c{number}", sink=print, raw=False, on_gap=on_gap, since=since)


class Bench:
    """A notifier of a pod that was deaf since 1.0, and whose connections these are.

    Args:
        clock: The pod's.
        entries: The connections.
    """

    def __init__(self, clock: Clock, entries: Sequence[Entry]) -> None:
        registry = Registry()
        registry.connections = {entry.conn_id: entry for entry in entries}
        system, self.clock, self.coverage = clock.surroundings(), clock, Coverage()
        subscriptions = Subscriptions(make_routing("broadcast", "c", 1), registry)
        self.notifier = GapNotifier(SlowReporter(clock), system, subscriptions, self.coverage, Watermark(1.0))
        self.coverage.begin(1.0)
        self.coverage.heard(["c"], clock.now)

    async def settle(self) -> None:
        owed = self.coverage.settled()
        assert owed is not None
        await self.notifier.report_settled(owed, self.clock.now)


GAP = Gap(channel="c", cause="reconnect", reason="not connected until now", since=1.0, until=100.0)


async def most_in_one_turn(count: Callable[[], int], done: Callable[[], bool]) -> int:
    """Return by how much it grew between two turns of the loop, at most."""
    most = before = 0
    while not done():
        await asyncio.sleep(0)
        most, before = max(most, count() - before), count()
    return most


async def test_the_loop_has_its_turns_while_a_hundred_thousand_are_told() -> None:
    clock, told = Clock(), list[Gap]()
    entries = [entry(number, told.append) for number in range(100_000)]
    bench = Bench(clock, entries)
    telling = asyncio.create_task(bench.settle())
    most = await most_in_one_turn(lambda: len(told), telling.done)
    await telling
    assert [(gap.cause, gap.reason, gap.until - gap.since) for gap in told] == [(GAP.cause, GAP.reason, 99.0)] * 100_000
    assert SLICE_ENTRIES <= most <= MOST_AT_ONCE
    bench.notifier.close()


async def test_a_second_gap_within_a_second_is_told_late_and_in_slices_too() -> None:
    clock, told = Clock(), list[Gap]()
    entries = [entry(number, told.append) for number in range(5_000)]
    bench = Bench(clock, entries)
    assert bench.notifier.notify(entries, GAP)
    clock.now += 0.1
    for late in entries:
        late.notified_at = clock.now
    await bench.settle()
    assert len(told) == len(entries), "once a second is enough"
    clock.now += 2.0
    most = await most_in_one_turn(lambda: len(told) - len(entries), lambda: len(told) == 2 * len(entries))
    assert SLICE_ENTRIES <= most <= MOST_AT_ONCE
    bench.notifier.close()
    assert len(told) == 2 * len(entries)


async def test_who_attached_since_the_telling_began_has_no_part_in_the_gap() -> None:
    clock, told = Clock(), list[int]()

    def note(number: int, _: Gap) -> None:
        told.append(number)

    entries = [entry(number, partial(note, number)) for number in range(200)]
    entries.append(entry(200, partial(note, 200), since=clock.now + TELL_S))
    bench = Bench(clock, entries)
    await bench.settle()
    assert told == [*range(200)]
    bench.notifier.close()


async def test_who_was_notified_before_a_frame_is_not_notified_again() -> None:
    clock, told = Clock(), list[int]()

    def note(number: int, gap: Gap) -> None:
        told.append(number)
        assert gap.since == pytest.approx(1.0)

    entries = [entry(number, partial(note, number)) for number in range(5)]
    bench = Bench(clock, entries)
    await bench.notifier.notify_before("c", entries[2:4])
    assert told == [2, 3]
    await bench.notifier.notify_before("c", entries[2:4])
    await bench.settle()
    assert sorted(told) == [0, 1, 2, 3, 4]
    bench.notifier.close()


async def test_a_telling_that_is_cut_short_tells_the_others_at_once() -> None:
    clock, told = Clock(), list[Gap]()
    bench = Bench(clock, [entry(number, told.append) for number in range(1_000)])
    telling = asyncio.create_task(bench.settle())
    await asyncio.sleep(0)
    assert 0 < len(told) < 1_000
    telling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await telling
    assert len(told) == 1_000
    bench.notifier.close()
