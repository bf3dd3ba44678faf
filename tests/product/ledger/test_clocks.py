"""A pod whose clock is wrong dates its gaps by it: the ledger reads them by its own."""

from __future__ import annotations

import time

import pytest
from backplane_core import Gap

from tests.product.ledger.clocks import PodClock


def gap(since: float, until: float) -> Gap:
    return Gap(channel="ch", cause="reconnect", reason="", since=since, until=until)


@pytest.mark.parametrize("ahead_s", [0.0, -90.0, 60.0])
def test_a_gap_is_dated_by_the_clock_as_it_is_set(ahead_s: float) -> None:
    clock, now = PodClock(ahead_s), time.time()
    corrected = clock.corrected(gap(now + ahead_s - 3, now + ahead_s - 1))
    assert (corrected.since - now, corrected.until - now) == pytest.approx((-3, -1))
    assert clock.wall() == pytest.approx(now + ahead_s, abs=5)


@pytest.mark.parametrize("by_s", [-5_000.0, 2_000.0])
def test_a_gap_that_was_dated_by_an_earlier_setting_is_read_by_that_one(by_s: float) -> None:
    clock, now = PodClock(60.0), time.time()
    clock.set(by_s)
    clock.set(60.0)
    for ahead_s in (60.0, by_s):
        corrected = clock.corrected(gap(now + ahead_s - 3, now + ahead_s - 1))
        assert (corrected.since - now, corrected.until - now) == pytest.approx((-3, -1))


@pytest.mark.parametrize("by_s", [-5_000.0, 2_000.0])
def test_a_gap_over_a_step_of_the_clock_says_more_than_it_must(by_s: float) -> None:
    clock, now = PodClock(0.0), time.time()
    clock.set(by_s)
    readings = (now - 3, now - 1 + by_s)
    corrected = clock.corrected(gap(min(readings), max(readings)))
    assert corrected.since <= now - 3
    assert corrected.until >= now - 1
