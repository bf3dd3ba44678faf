"""`overflow="latest"`: newer events outdate older ones of their target and key; what is skipped is counted, no gap.

The queue is held against a plain list that does what the documentation says.
"""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import pytest
from attrs import define, evolve, field
from backplane_core import ConfigurationError, Event, Gap, InMemoryBackplane, InvalidTargetError, Target
from backplane_core._local.latest_queue import LatestQueue
from backplane_core._runtime.system import System
from hypothesis import given, settings
from hypothesis import strategies as st

USER, ROOM = Target.user("u1"), Target("room", "42")
TARGETS = (USER, ROOM)
GAP = Gap(channel="backplane", cause="sequence", reason="numbers were skipped", since=0.0, until=0.0, missed=1)

Conflate: TypeAlias = Literal["full", "always"]


@define
class Put:
    target: int
    key: str | None
    size: int


Step: TypeAlias = Put | Literal["read", "gap"]
STEPS = st.lists(
    st.one_of(
        st.builds(Put, st.sampled_from([0, 0, 0, 1]), st.sampled_from([None, "a", "a", "b", "c"]), st.integers(1, 40)),
        st.sampled_from(["read", "read", "gap"]),
    ),
    max_size=60,
)


@define
class Waiting:
    number: int
    place: tuple[int, str] | None
    size: int


@define
class PlainList:
    """What the queue promises, without any thought of what it costs."""

    most: int
    most_bytes: int
    conflate: Conflate
    items: list[Waiting | str] = field(factory=list["Waiting | str"])
    conflated: int = 0
    last: int = 0

    def put(self, step: Put) -> None:
        self.last += 1
        if step.size > self.most_bytes:
            self.items.append("overflow")
            return
        place = None if step.key is None else (step.target, step.key)
        self.items.append(Waiting(self.last, place, step.size))
        while (outdated := self.outdated()) and (self.conflate == "always" or self.is_too_full()):
            self.items.remove(outdated)
            self.conflated += 1
        while self.is_too_full():
            index = next(index for index, item in enumerate(self.items) if isinstance(item, Waiting))
            self.items[index] = "overflow"

    def outdated(self) -> Waiting | None:
        """The event whose successor came first."""
        waiting = self.waiting()
        pairs = [
            (min(later.number for later in waiting if later.place == one.place and later.number > one.number), one)
            for number, one in enumerate(waiting)
            if one.place is not None and any(later.place == one.place for later in waiting[number + 1 :])
        ]
        return min(pairs, key=lambda pair: pair[0])[1] if pairs else None

    def waiting(self) -> list[Waiting]:
        return [item for item in self.items if isinstance(item, Waiting)]

    def is_too_full(self) -> bool:
        waiting = self.waiting()
        return len(waiting) > self.most or sum(one.size for one in waiting) > self.most_bytes


def brief(items: Sequence[Any]) -> list[Any]:
    """Events by their number, and between two of them how much is missing, by cause."""
    found: list[Any] = [{}]
    for item in items:
        if isinstance(item, Event):
            found += [int(item.json.split(b".")[0]), {}]
        elif isinstance(item, Waiting):
            found += [item.number, {}]
        else:
            for cause, missed in _missing(item):
                found[-1][cause] = found[-1].get(cause, 0) + missed
    return found


def _missing(item: Any) -> list[tuple[str, int]]:
    if isinstance(item, str):
        return [(item, 1)]
    gaps = [item] if isinstance(item, Gap) else item.values()
    return [(gap.cause, gap.missed or 0) for gap in gaps]


@given(STEPS, st.integers(1, 5), st.integers(20, 120), st.sampled_from(["full", "always"]))
@settings(max_examples=300, deadline=None)
def test_the_queue_does_what_a_plain_list_would_and_is_bounded(
    steps: list[Step], most: int, most_bytes: int, conflate: Conflate
) -> None:
    asyncio.run(play(steps, most, most_bytes, conflate))


async def play(steps: list[Step], most: int, most_bytes: int, conflate: Conflate) -> None:
    options: Any = {"max_pending": most, "max_pending_bytes": most_bytes, "overflow": "latest", "conflate": conflate}
    got: list[Event | Gap] = []
    expected: list[Waiting | str] = []
    model = PlainList(most, most_bytes, conflate)
    async with InMemoryBackplane() as backplane, backplane.connection("c1", *TARGETS, **options) as connection:
        queue: Any = connection._queue  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        assert isinstance(queue, LatestQueue)
        items = connection.items()

        for step in steps:
            if isinstance(step, Put):
                data = b"%d.%b" % (model.last + 1, b"1" * step.size)
                step.size = len(data)
                model.put(step)
                backplane.publish_json_nowait(TARGETS[step.target], data, key=step.key)
            elif step == "gap":
                model.items.append("sequence")
                queue.mark(GAP)
            elif model.waiting():
                while isinstance(taken := model.items.pop(0), str):
                    expected.append(taken)
                expected.append(taken)
                while not isinstance(item := await anext(items), Event):
                    got.append(item)
                got.append(item)
            waiting = model.waiting()
            assert (connection.pending, connection.pending_bytes) == (len(waiting), sum(one.size for one in waiting))
            assert connection.pending <= most
            assert connection.pending_bytes <= most_bytes
            # No two holes are adjacent, so they are bounded by what waits.
            assert len(queue.items) <= 2 * connection.pending + 1
            assert brief([*got, *queue.items]) == brief([*expected, *model.items])
            assert backplane.stats().conflated == model.conflated


class Timed(InMemoryBackplane):
    """A backplane whose clocks are the test's."""

    def _make_system(self) -> System:
        self.now = 1_000.0
        return evolve(super()._make_system(), monotonic=lambda: self.now, wall=lambda: self.now)


async def test_a_newer_price_stands_in_its_own_place_and_nothing_is_missing() -> None:
    gaps: list[Gap] = []
    async with (
        InMemoryBackplane() as backplane,
        backplane.connection(None, USER, max_pending=2, overflow="latest", on_gap=gaps.append) as connection,
    ):
        for price, key in ((1, "A"), (7, "B"), (2, "A"), (3, "A")):
            await backplane.publish(USER, price, key=key)
        events = [await anext(connection), await anext(connection)]
        assert [(event.value, event.key) for event in events] == [(7, "B"), (3, "A")]
        assert gaps == []
        stats = backplane.stats()
        assert (stats.conflated, stats.overflowed, stats.gaps, stats.delivered) == (2, 0, {}, 4)


async def test_events_of_other_targets_and_without_a_key_outdate_nothing() -> None:
    gaps: list[Gap] = []
    async with (
        InMemoryBackplane() as backplane,
        backplane.connection(None, USER, ROOM, overflow="latest", conflate="always", on_gap=gaps.append) as connection,
    ):
        await backplane.publish(USER, 1, key="A")
        await backplane.publish(ROOM, 2, key="A")
        await backplane.publish(USER, 3)
        await backplane.publish([ROOM, USER], 4, key="A")
        assert [(await anext(connection)).value for _ in range(3)] == [1, 3, 4]
        assert (backplane.stats().conflated, gaps) == (1, [])


async def test_where_nothing_is_outdated_the_oldest_is_dropped_with_a_gap_since_it_had_come() -> None:
    gaps: list[Gap] = []
    async with (
        Timed() as backplane,
        backplane.connection(None, USER, max_pending=2, overflow="latest", on_gap=gaps.append) as connection,
    ):
        for moment, key in ((1_000.0, "A"), (1_010.0, "B"), (1_020.0, "A"), (1_030.0, "C")):
            backplane.now = moment
            await backplane.publish(USER, moment, key=key)
        assert [(await anext(connection)).value for _ in range(2)] == [1_020, 1_030]
    assert [(gap.cause, gap.since, gap.until, gap.missed) for gap in gaps] == [("overflow", 1_010.0, 1_030.0, 1)]
    assert (backplane.stats().conflated, backplane.stats().overflowed) == (1, 1)


async def test_other_queues_skip_nothing() -> None:
    async with InMemoryBackplane() as backplane, backplane.connection(None, USER) as connection:
        for number in range(3):
            await backplane.publish(USER, number, key="A")
        assert [(await anext(connection)).value for _ in range(3)] == [0, 1, 2]
        assert backplane.stats().conflated == 0


async def test_options_and_keys_that_are_not_allowed_are_refused() -> None:
    wrong: Any
    async with InMemoryBackplane() as backplane:
        for wrong in ({"conflate": "always"}, {"conflate": "never"}, {"overflow": "newest"}):
            with pytest.raises(ConfigurationError):
                backplane.connection(None, USER, **wrong)
        with pytest.raises(ConfigurationError, match="end_on_gap"):
            backplane.connection(None, USER, overflow="latest", end_on_gap=True)
        for wrong in ("", "x" * 1_025, 7, b"A", "\ud800"):
            with pytest.raises(InvalidTargetError, match="key"):
                await backplane.publish(USER, 1, key=wrong)
            with pytest.raises(InvalidTargetError, match="key"):
                backplane.publish_local(USER, 1, key=wrong)
        assert backplane.stats().published == 0
