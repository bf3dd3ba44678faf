"""A pod's memory of other pods is bounded, and when it overflows it says so instead of guessing."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import time
import tracemalloc
from collections import OrderedDict
from random import Random

import pytest
from backplane_core import Frame, Gap, Target
from backplane_core._protocol import frame as frame_module
from backplane_core._protocol.frame import decode_target
from backplane_core._protocol.sequence import DUPLICATE, UNKNOWN, Tracker

from tests.product.hostile.frames import frame
from tests.support.fleets import MemoryFleet
from tests.support.inside import take
from tests.support.waiting import until


def remembered(tracker: Tracker) -> int:
    return sum(len(origins) for table in (tracker._heard, tracker._before_cut) for origins in table.values())


def test_a_tracker_that_is_full_forgets_all_and_tells_a_hole_of_unknown_size_where_it_can_not_know() -> None:
    tracker = Tracker(ttl_s=300, max_origins=5)
    tracker.accept("a", "honest", 7, 6)
    for number in range(5):
        assert tracker.accept("a", f"forged {number}", 1, None) == 0
    assert tracker.origins == 1
    assert tracker.accept("a", "honest", 8, 7) == UNKNOWN
    assert tracker.accept("a", "honest", 9, 8) == 0
    assert tracker.accept("a", "honest", 9, 8) == DUPLICATE
    assert tracker.accept("a", "honest", 12, 11) == 2
    # The first frame of a pod follows on nothing, so nothing can be missing before it.
    assert tracker.accept("a", "new", 1, None) == 0
    tracker.now = 300
    assert tracker.accept("b", "unheard", 5, 4) == UNKNOWN
    tracker.now = 300.1
    assert tracker.accept("b", "other", 5, 4) == 0


def test_a_hole_across_a_cut_belongs_to_the_cuts_gap_also_when_the_tracker_was_full() -> None:
    tracker = Tracker(ttl_s=300, max_origins=2)
    for origin in ("x", "y", "honest"):
        tracker.accept("a", origin, 1, None)
    tracker.cut()
    assert tracker.accept("a", "honest", 1, None) == DUPLICATE
    assert tracker.accept("a", "honest", 9, 8) == 0


def test_the_count_of_numbers_is_right_whatever_happens_and_never_over_the_limit() -> None:
    chance = Random(1)
    tracker = Tracker(ttl_s=20, max_origins=30, max_numbers=60)
    most = overflows = 0
    for step in range(30_000):
        tracker.now = step / 10
        channel, origin = f"c{chance.randrange(9)}", f"o{min(chance.randrange(40), chance.randrange(40))}"
        what = chance.random()
        if what < 0.9:
            before = tracker._overflowed_at
            tracker.accept(channel, origin, step + 1, step or None)
            overflows += tracker._overflowed_at != before
        elif what < 0.94:
            tracker.cut()
        elif what < 0.98:
            tracker.forget_channel(channel)
        else:
            tracker.expire(tracker.now)
        assert tracker._numbers == remembered(tracker) <= 60
        assert tracker.origins <= 30
        most = max(most, tracker._numbers)
    assert most == 60
    assert overflows > 10


def test_a_million_forged_origins_cost_a_few_megabytes(long: bool) -> None:  # noqa: FBT001 -- a fixture
    tracker = Tracker(ttl_s=300)
    tracemalloc.start()
    for number in range(1_000_000 if long else 100_000):
        tracker.accept("shared", f"{number:032x}", 1, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert tracker.origins <= 65_536
    assert peak < 24 << 20
    tracker.now = 1_000
    tracker.expire(tracker.now)
    assert (tracker.origins, tracker._numbers, tracker._heard) == (0, 0, {})


def test_distinct_targets_are_remembered_up_to_a_bound_and_long_ones_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known: OrderedDict[bytes, object] = OrderedDict()
    monkeypatch.setattr(frame_module, "_targets", known)
    for number in range(70_000):
        decode_target(b'{"User":"%d"}' % number)
    assert list(known) == [b'{"User":"%d"}' % number for number in range(70_000 - 65_536, 70_000)]
    known.clear()
    for number in range(10):
        decode_target(b'{"User":%b"%d"}' % (b" " * 10_000, number))
        decode_target(b'{"User":"%b%d"}' % (b"\\u0041" * 900, number))
    assert known == {}


async def test_an_event_over_the_limit_is_not_taken_from_the_bus_either(routing: str) -> None:
    fleet = MemoryFleet(routing)
    async with fleet.stack:
        generous, strict = await fleet.pod(max_event_bytes=2_000), await fleet.pod(max_event_bytes=1_000)
        socket = await fleet.socket(strict, "c1")
        for length in (998, 999, 1_500, 5):
            await generous.publish(Target.connection("c1"), "x" * length)
        assert [len(event) for event in await socket.has(2)] == [998, 5]
        assert strict.stats().decode_errors == 2


async def test_a_storm_of_forged_holes_is_told_a_thousand_connections_twice_and_costs_about_that() -> None:
    fleet = MemoryFleet()
    gaps: list[list[Gap]] = [[] for _ in range(1_000)]
    async with fleet.stack:
        pod = await fleet.pod()
        for number, told in enumerate(gaps):
            await pod.attach(f"c{number}", print, on_gap=told.append)

        def jump(origin: int) -> list[Frame]:
            name = b'"o%d"' % origin
            return [("backplane", frame(origin=name, seq=b"1")), ("backplane", frame(origin=name, seq=b"4", prev=b"3"))]

        started = time.perf_counter()
        await take(pod, jump(0))
        once = time.perf_counter() - started
        assert [[gap.missed for gap in told] for told in gaps] == [[2]] * 1_000
        storm = [part for origin in range(1, 2_001) for part in jump(origin)]
        started = time.perf_counter()
        await take(pod, storm)
        # To walk over all connections for each would cost two thousand times as much.
        assert time.perf_counter() - started < 200 * once
        await until(lambda: all(len(told) == 2 for told in gaps), "the rest, merged")
        assert {tuple(gap.missed for gap in told) for told in gaps} == {(2, 4_000)}
        assert pod.stats().gaps["sequence"] == 2_001
        await take(pod, jump(5_000))
        await take(pod, jump(5_001))
    # What is kept is told at the latest when the backplane closes.
    assert {sum(gap.missed or 0 for gap in told) for told in gaps} == {4_006}
