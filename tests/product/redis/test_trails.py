"""Where a pod has been in a stream, and up to where another server's copy of it is the same."""

from __future__ import annotations

from random import Random
from typing import Any, cast

import pytest
from backplane_redis import StreamsTransport
from backplane_redis._streams.divergence import find_common
from backplane_redis._streams.place import Place
from backplane_redis._streams.session import Session
from backplane_redis._streams.trail import MAX_STEPS, Step, Trails
from redis.asyncio import Redis

pytestmark = pytest.mark.usefixtures("streams_url")


def test_the_last_seconds_are_kept_closely_and_the_first_step_for_good() -> None:
    trails = Trails()
    for number in range(1, 10_001):
        trails.passed("a", Place((number, 0), number), b"%d" % number, float(number))
    steps = trails.steps("a", Place((10_000, 0), 10_000))
    numbers = [step.place.number for step in steps]
    assert len(numbers) <= MAX_STEPS
    assert numbers == sorted(numbers)
    assert numbers[0] == 1
    assert numbers[-10:] == [*range(9_991, 10_001)]
    assert [step.place.number for step in trails.steps("a", Place((50, 0), 50))] == [n for n in numbers if n <= 50]


def test_of_many_entries_in_a_moment_one_step_is_kept_and_the_last_one_is_known() -> None:
    trails = Trails()
    for number in range(1, 100):
        trails.passed("a", Place((number, 0), number), b"%d" % number, 10.0)
    assert len(trails.steps("a", Place((99, 0), 99))) == 1
    assert trails.agrees("a", Place((99, 0), 99), b"99")
    assert not trails.agrees("a", Place((99, 0), 99), b"of another server")
    assert not trails.agrees("a", Place((1, 0), 1), b"of another server")
    assert trails.agrees("a", Place((50, 0), 50), b"anything: that one is not known")
    assert trails.agrees("b", Place((1, 0), 1), b"anything")


def test_what_was_read_behind_a_tear_is_forgotten() -> None:
    trails = Trails()
    for number in range(1, 6):
        trails.passed("a", Place((number, 0), number), b"old", float(number))
    trails.turned("a", Place((3, 0), 3))
    assert [step.place.number for step in trails.steps("a", Place((9, 0), 9))] == [1, 2, 3]
    assert trails.agrees("a", Place((5, 0), 5), b"new")


async def test_the_last_common_entry_is_found_wherever_streams_part(redis_url: str, channel: str) -> None:
    """A server that has taken over may have given the ids of lost entries to others."""
    chance, link = Random(1), await StreamsTransport(redis_url.replace("://", "+streams://", 1)).open()
    session: Session = cast("Any", link)._writing
    client: Any = Redis.from_url(redis_url)  # pyright: ignore[reportUnknownMemberType] -- redis-py's gap
    try:
        trails: dict[str, list[Step]] = {}
        expected: dict[str, int] = {}
        for lane in range(12):
            name, trail = f"{channel}:@{lane}", Trails()
            common = chance.choice([0, 1, 2, 63, 64, chance.randrange(64)])
            for number in range(1, 65):
                trail.passed(name, Place((number, 0), number), b"%d" % number, float(number))
                if number <= common:
                    await client.xadd(name, {"f": b"%d" % number}, id=f"{number}-0")
                elif lane % 2:
                    await client.xadd(name, {"f": b"another"}, id=f"{number}-0")
            trails[name] = [*trail.steps(name, Place((64, 0), 64))]
            known = [step.place.number for step in trails[name] if step.place.number <= common]
            if known:
                expected[name] = known[-1]
        found = await find_common(session, trails)
    finally:
        await client.aclose()
        await link.aclose()
    assert {name: step.place.number for name, step in found.items()} == expected
