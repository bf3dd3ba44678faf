"""A queue that drops its oldest events says since when they may be missed: since they came, long before they went."""

from __future__ import annotations

from attrs import evolve
from backplane_core import Gap, InMemoryBackplane, Target
from backplane_core._runtime.system import System

USER = Target.user("u1")


class Timed(InMemoryBackplane):
    """A backplane whose clocks are the test's."""

    def _make_system(self) -> System:
        self.now = 1_000.0
        return evolve(super()._make_system(), monotonic=lambda: self.now, wall=lambda: self.now)


async def test_a_gap_begins_when_the_oldest_event_that_was_dropped_had_come() -> None:
    gaps: list[Gap] = []
    async with (
        Timed() as backplane,
        backplane.connection(None, USER, max_pending=2, overflow="drop_oldest", on_gap=gaps.append) as connection,
    ):
        for moment in (1_000.0, 1_010.0, 1_020.0):
            backplane.now = moment
            await backplane.publish(USER, moment)
        assert (await anext(connection)).value == 1_010
        assert [(gap.since, gap.until, gap.missed) for gap in gaps] == [(1_000.0, 1_020.0, 1)]
        for moment in (1_030.0, 1_040.0, 1_050.0):
            backplane.now = moment
            await backplane.publish(USER, moment)
        assert (await anext(connection)).value == 1_040
    assert [(gap.since, gap.until, gap.missed) for gap in gaps[1:]] == [(1_020.0, 1_050.0, 2)]


async def test_what_was_read_does_not_make_a_later_gap_longer() -> None:
    gaps: list[Gap] = []
    async with (
        Timed() as backplane,
        backplane.connection(None, USER, max_pending=2, overflow="drop_oldest", on_gap=gaps.append) as connection,
    ):
        for number in range(1_000):
            backplane.now += 10
            await backplane.publish(USER, number)
            assert (await anext(connection)).value == number
        for number in range(3):
            await backplane.publish(USER, number)
        assert (await anext(connection)).value == 1
    assert [(gap.since, gap.missed) for gap in gaps] == [(backplane.now, 1)]
