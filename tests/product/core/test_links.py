"""Back-off and pulse, by a clock that the test turns."""

from __future__ import annotations

from random import Random

import pytest
from backplane_core._link.backoff import Backoff
from backplane_core._link.heartbeat import Heartbeat
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


PULSES = [(15.0, 1.0), (0.5, 1.0), (2.0, 0.1), (60.0, 1.0)]


class Link:
    """A link with a pulse: turns the clock, sends beats, and answers them as long as it is well."""

    def __init__(self, probe_interval_s: float, beat_s: float, *, hears: bool = True) -> None:
        self.pulse = Heartbeat(probe_interval_s, beat_s, hears)
        self.now = 1_000.0
        self.beats = 0
        self.in_flight = False
        self.accepted = 0
        self.echoes = True
        self.confirms = True
        self.pulse.tick(self.now, 0)

    def beat(self) -> None:
        self.beats += 1
        self.accepted += 1
        self.pulse.beat(self.accepted)
        # One batch at a time: what comes while one is unconfirmed waits in the outbox.
        if not self.in_flight:
            self.in_flight = True
            self.pulse.writing()
        if self.confirms:
            self.in_flight = False
            self.pulse.confirmed()
        if self.echoes:
            self.pulse.heard()

    def run(self, seconds: float, step_s: float | None = None) -> str:
        """Turn the clock until then or until the link is given up."""
        end = self.now + seconds
        while self.now < end:
            self.now += self.pulse.tick_s if step_s is None else step_s
            decision = self.pulse.tick(self.now, self.accepted)
            if decision == "beat":
                self.beat()
            elif decision != "wait":
                return decision
        return "alive"


@pytest.mark.parametrize(("probe_interval_s", "beat_s"), PULSES)
def test_an_idle_link_beats_once_per_probe_interval_and_lives(probe_interval_s: float, beat_s: float) -> None:
    link = Link(probe_interval_s, beat_s)
    assert link.run(probe_interval_s * 20) == "alive"
    assert 15 <= link.beats <= 20


@pytest.mark.parametrize(("probe_interval_s", "beat_s"), PULSES)
@pytest.mark.parametrize("fault", ["echoes", "confirms"])
def test_a_deaf_or_stalled_link_is_given_up_within_two_probe_intervals_and_the_ticks_that_see_it(
    probe_interval_s: float, beat_s: float, fault: str
) -> None:
    link = Link(probe_interval_s, beat_s)
    link.beat()
    fell_silent = link.now
    setattr(link, fault, False)
    if fault == "confirms":
        link.echoes = False
    assert link.run(probe_interval_s * 10) == ("deaf" if fault == "echoes" else "stalled")
    assert link.now - fell_silent <= 2 * (probe_interval_s + link.pulse.tick_s) + 1e-6


def test_another_channels_torn_end_is_marked_soon_and_not_at_the_next_probe() -> None:
    link = Link(15.0, 1.0)
    assert link.run(3) == "alive"
    assert link.beats == 0
    assert link.pulse.tick(link.now + 1, link.accepted, torn=True) == "beat"


def test_a_loop_that_its_host_blocked_is_not_a_dead_broker() -> None:
    link = Link(15.0, 1.0)
    link.echoes = False
    link.beat()
    # Ten ticks, each a minute late: ten minutes by the clock, twenty seconds of ticks at most.
    for _ in range(6):
        link.now += 60
        assert link.pulse.tick(link.now, link.accepted) == "wait"
    link.pulse.heard()
    link.echoes = True
    assert link.run(100) == "alive"


def test_an_echo_that_overtakes_its_confirmation_counts() -> None:
    link = Link(10.0, 1.0)
    link.accepted = 1
    link.pulse.beat(1)
    link.pulse.writing()
    link.pulse.heard()
    link.pulse.confirmed()
    # Were it still awaited, the link would be deaf after 10 s; as it is, the beat that follows then goes unheard.
    link.echoes = False
    assert link.run(15) == "alive"
    assert link.run(10) == "deaf"


def test_bytes_that_wait_to_be_read_are_life() -> None:
    link = Link(1.0, 1.0)
    link.echoes = False
    for _ in range(50):
        assert link.run(0.4) == "alive"
        link.pulse.behind()
    assert link.run(10) == "deaf"


def test_a_beat_follows_the_last_frame_and_marks_the_end_once() -> None:
    link = Link(60.0, 1.0)
    for _ in range(5):
        link.accepted += 1
        link.run(0.7, step_s=0.25)
    assert link.beats == 0
    link.run(5, step_s=0.25)
    assert link.beats == 1


def test_a_publisher_that_hears_nothing_is_never_deaf_but_may_stall() -> None:
    link = Link(1.0, 1.0, hears=False)
    link.echoes = False
    assert link.run(50) == "alive"
    assert link.beats > 10
    link.confirms = False
    assert link.run(50) == "stalled"


def ticks(pulse: Heartbeat, start: float, count: int) -> list[str]:
    return [pulse.tick(start + number * pulse.tick_s, 0) for number in range(count)]


def test_a_pod_that_only_hears_asks_for_an_answer_once_a_beat() -> None:
    pulse = Heartbeat(probe_interval_s=1_000, beat_s=1.0)
    assert ticks(pulse, 0.0, 5) == ["wait"] * 5, "nothing came in: nothing can be missed unproven"
    pulse.received()
    assert pulse.tick(5.0, 0) == "ask"
    pulse.writing()
    assert pulse.tick(6.0, 0) == "wait", "an answer is due"
    pulse.confirmed()
    assert pulse.tick(7.0, 0) == "wait"
    pulse.received()
    assert pulse.tick(8.0, 0) == "ask"


def test_a_pod_that_also_sends_need_not_ask() -> None:
    pulse = Heartbeat(probe_interval_s=1_000, beat_s=1.0)
    for number in range(20):
        pulse.received()
        pulse.writing()
        pulse.confirmed()
        assert pulse.tick(number * 0.5, 0) == "wait"
