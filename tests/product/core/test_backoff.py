"""How long a pod waits before it tries another link, by a clock that the test turns."""

from __future__ import annotations

from random import Random

from backplane_core._link.backoff import Backoff
from hypothesis import given
from hypothesis import strategies as st


def waits(backoff: Backoff, start: float, outage_s: float) -> list[tuple[float, float]]:
    """`(seconds into the outage, the wait drawn there)` for as long as it lasts."""
    drawn: list[tuple[float, float]] = []
    now = start
    while now - start < outage_s:
        wait = backoff.lost(now)
        drawn.append((now - start, wait))
        now += wait
    return drawn


@given(st.integers())
def test_waits_double_from_50_ms_to_1_6_s_and_after_20_s_they_are_patient(seed: int) -> None:
    longest = 0.05
    for into, wait in waits(Backoff(Random(seed)), 100.0, 60.0):
        if into < 20:
            assert longest / 4 <= wait <= longest <= 1.6
            longest = min(longest * 2, 1.6)
        else:
            assert 2.5 <= wait <= 5.0


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


def test_patience_is_counted_from_the_loss_and_not_from_an_outage_before() -> None:
    backoff = Backoff(Random(1))
    waits(backoff, 0.0, 30.0)
    backoff.live(30.0)
    assert backoff.lost(100.0) <= 0.05
