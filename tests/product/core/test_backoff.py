"""How long a pod waits before it tries another link, by a clock that the test turns."""

from __future__ import annotations

from random import Random

import pytest
from backplane_core._link.backoff import Backoff
from hypothesis import given
from hypothesis import strategies as st


def waits(backoff: Backoff, start: float, outage_s: float, *, silent: bool = False) -> list[tuple[float, float]]:
    """`(seconds into the outage, the wait drawn there)` for as long as it lasts."""
    drawn: list[tuple[float, float]] = []
    now = start
    while now - start < outage_s:
        wait = backoff.lost(now, silent=silent)
        drawn.append((now - start, wait))
        now += wait
    return drawn


@given(seed=st.integers(), outage_s=st.sampled_from([1.0, 60.0, 3_600.0]))
def test_however_long_nobody_listened_the_next_attempt_comes_within_2_s(seed: int, outage_s: float) -> None:
    longest = 0.05
    for _, wait in waits(Backoff(Random(seed)), 100.0, outage_s):
        assert longest / 4 <= wait <= longest <= 2.0
        longest = min(longest * 2, 2.0)


@given(st.integers())
def test_after_20_s_without_any_answer_waits_are_patient(seed: int) -> None:
    for into, wait in waits(Backoff(Random(seed)), 100.0, 60.0, silent=True):
        if into < 20:
            assert wait <= 2.0
        else:
            assert 2.5 <= wait <= 5.0


def test_an_attempt_that_was_answered_ends_the_patience() -> None:
    backoff = Backoff(Random(1))
    waits(backoff, 0.0, 60.0, silent=True)
    assert backoff.lost(60.0) <= 2.0
    assert backoff.lost(61.0, silent=True) <= 2.0


@pytest.mark.parametrize("outage_s", [2, 20, 600])
def test_a_fleet_comes_back_spread_over_the_time_that_it_is_promised(outage_s: float) -> None:
    pods = 1_000
    back = sorted(sum(waits(Backoff(Random(pod)), 0.0, outage_s)[-1]) - outage_s for pod in range(pods))
    assert back[0] >= 0
    assert back[-1] <= 2.0
    at_once = max([sum([first <= at < first + 0.1 for at in back]) for first in back])
    assert at_once < 0.15 * pods


def test_waits_use_their_whole_range() -> None:
    first = sorted(Backoff(Random(seed)).lost(0.0) for seed in range(500))
    assert first[0] < 0.015
    assert first[-1] > 0.048


def test_refused_credentials_wait_longer_and_do_not_use_up_the_short_waits() -> None:
    backoff = Backoff(Random(1))
    for _ in range(20):
        assert 5.0 <= backoff.lost(0.0, retryable=False) <= 7.5
    assert backoff.lost(0.0) <= 0.05


def test_a_link_that_lived_long_starts_short_again_and_one_that_flaps_does_not() -> None:
    backoff = Backoff(Random(1))
    waits(backoff, 0.0, 10.0)
    backoff.live(10.0)
    assert backoff.lost(10.1) >= 0.4
    backoff.live(11.0)
    assert backoff.lost(17.0) <= 0.05


def test_patience_is_counted_from_the_first_silence_and_not_from_an_outage_before() -> None:
    backoff = Backoff(Random(1))
    waits(backoff, 0.0, 30.0, silent=True)
    backoff.live(30.0)
    assert backoff.lost(100.0, silent=True) <= 0.05
