"""A pod's memory of other pods is bounded, and what it forgets is news again, never a hole."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import tracemalloc
from collections import OrderedDict
from collections.abc import Iterable
from random import Random

import pytest
from backplane_core import Frame, Gap, Target
from backplane_core._inbound.subscriptions import Subscriptions
from backplane_core._local.entry import Entry
from backplane_core._protocol import frame as frame_module
from backplane_core._protocol.frame import decode_target
from backplane_core._protocol.heard_numbers import HeardNumbers
from backplane_core._protocol.sequence import DUPLICATE, Tracker

from tests.product.hostile.frames import frame
from tests.support.fleets import MemoryFleet
from tests.support.inside import take
from tests.support.waiting import until


def remembered(tracker: Tracker) -> int:
    return sum(map(len, tracker.numbers.channels.values()))


def test_a_tracker_that_is_full_forgets_who_was_silent_longest_and_claims_no_hole() -> None:
    tracker = Tracker(ttl_s=300, numbers=HeardNumbers(max_numbers=5))
    tracker.accept("a", "silent", 7, 6)
    for number in range(50):
        tracker.now = tracker.read_at = number + 1.0
        assert (
            tracker.follows("a", "honest", number + 1, number or None)
            or tracker.accept("a", "honest", number + 1, number or None) == 0
        )
        assert tracker.accept("a", f"forged {number}", 1, None) == 0
    assert (len(tracker.numbers), tracker.numbers.evicted) == (5, 47)
    assert tracker.accept("a", "honest", 50, 49) == DUPLICATE
    assert tracker.accept("a", "honest", 53, 52) == 2
    # What was forgotten is news: nothing says that anything is missing.
    assert tracker.accept("a", "silent", 30, 29) == 0


def test_long_names_of_forged_origins_are_bounded_in_bytes() -> None:
    tracker = Tracker(ttl_s=300, numbers=HeardNumbers(max_origin_bytes=10_000))
    tracker.accept("a", "honest", 1, None)
    for number in range(1_000):
        tracker.now = tracker.read_at = number
        tracker.accept("a", f"{number:01024d}", 1, None)
    assert len(tracker.numbers) == 9


def test_a_fleet_that_outgrows_the_table_is_told_of_no_hole() -> None:
    tracker = Tracker(ttl_s=300, numbers=HeardNumbers(max_numbers=1_000))
    for turn in range(20):
        for origin in range(20):
            for channel in range(100):
                tracker.now += 0.01
                tracker.read_at = tracker.now
                assert tracker.accept(f"c{channel}", f"o{origin}", turn + 1, turn or None) == 0
    assert len(tracker.numbers) == 1_000


def test_a_hole_across_a_cut_belongs_to_the_cuts_gap_also_when_the_tracker_was_full() -> None:
    tracker = Tracker(ttl_s=300, numbers=HeardNumbers(max_numbers=2))
    for origin in ("x", "y", "honest"):
        tracker.now += 1
        tracker.read_at = tracker.now
        tracker.accept("a", origin, 1, None)
    tracker.cut()
    assert tracker.accept("a", "honest", 1, None) == DUPLICATE
    assert tracker.accept("a", "honest", 9, 8) == 0


def test_the_count_of_numbers_is_right_whatever_happens_and_never_over_the_limit() -> None:
    chance = Random(1)
    tracker = Tracker(ttl_s=20, numbers=HeardNumbers(max_numbers=60, max_origin_bytes=150))
    most = 0
    for step in range(30_000):
        tracker.now = tracker.read_at = step / 10
        channel, origin = f"c{chance.randrange(9)}", f"o{min(chance.randrange(40), chance.randrange(40))}"
        what = chance.random()
        if what < 0.9:
            tracker.accept(channel, origin, step + 1, step or None)
        elif what < 0.94:
            tracker.cut()
        elif what < 0.96:
            tracker.leave(channel, tracker.now)
        elif what < 0.98:
            tracker.heard(channel, tracker.now)
        else:
            tracker.expire(tracker.now)
        assert len(tracker.numbers) == remembered(tracker) <= 60
        assert tracker.numbers._origin_bytes == sum(len(last.origin) for last in tracker.numbers._order) <= 150
        most = max(most, len(tracker.numbers))
    assert most > 50
    assert tracker.numbers.evicted > 10


def test_a_million_forged_origins_cost_some_megabytes(long: bool) -> None:  # noqa: FBT001 -- a fixture
    tracker = Tracker(ttl_s=300, numbers=HeardNumbers(max_numbers=65_536))
    tracemalloc.start()
    for number in range(1_000_000 if long else 100_000):
        tracker.accept("shared", f"{number:032x}", 1, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(tracker.numbers) == 65_536
    assert peak < 32 << 20
    for _ in range(17):  # a slice at a time
        tracker.expire(1_000)
    assert (len(tracker.numbers), tracker.numbers._origin_bytes, tracker.numbers.channels) == (0, 0, {})


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


def missed(gaps: list[Gap]) -> int:
    return sum([gap.missed or 0 for gap in gaps])


async def test_a_storm_of_forged_holes_is_told_a_thousand_connections_merged_and_costs_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet = MemoryFleet()
    looked_at = 0
    channels_of = Subscriptions.channels_of

    def counted(self: Subscriptions, entry: Entry) -> Iterable[str]:
        nonlocal looked_at
        looked_at += 1
        return channels_of(self, entry)

    monkeypatch.setattr(Subscriptions, "channels_of", counted)
    gaps: list[list[Gap]] = [[] for _ in range(1_000)]
    async with fleet.stack:
        pod = await fleet.pod()
        for number, told in enumerate(gaps):
            await pod.attach(f"c{number}", print, on_gap=told.append)

        def jump(origin: int) -> list[Frame]:
            name = b'"o%d"' % origin
            return [("backplane", frame(origin=name, seq=b"1")), ("backplane", frame(origin=name, seq=b"4", prev=b"3"))]

        await take(pod, jump(0))
        await until(lambda: all(gaps), "all hear of the first")
        assert [[gap.missed for gap in told] for told in gaps] == [[2]] * 1_000
        await take(pod, [part for origin in range(1, 2_001) for part in jump(origin)])
        await until(lambda: all(missed(told) == 4_002 for told in gaps), "the rest, merged")
        assert all(len(told) < 20 for told in gaps), "at most one a second"
        assert looked_at < 100_000, "to walk over all connections for each would be two million"
        assert pod.stats().gaps["sequence"] == 2_001
        await take(pod, jump(5_000))
        await take(pod, jump(5_001))
    # What is kept is told at the latest when the backplane closes.
    assert {missed(told) for told in gaps} == {4_006}
