"""A link's heartbeat: when it beats, and when the link is given up, by a clock that the test turns."""

from __future__ import annotations

import pytest
from backplane_core._protocol.heartbeat import Heartbeat

INTERVALS = [(15.0, 1.0), (0.5, 1.0), (2.0, 0.1), (60.0, 1.0)]


class Link:
    """A link with a heartbeat: turns the clock, sends beats, and answers them as long as it is well."""

    def __init__(self, probe_interval_s: float, beat_s: float, *, hears: bool = True) -> None:
        self.heartbeat = Heartbeat(probe_interval_s, beat_s, hears)
        self.now = 1_000.0
        self.beats = 0
        self.in_flight = False
        self.accepted = 0
        self.echoes = True
        self.confirms = True
        self.heartbeat.tick(self.now, 0)

    def beat(self) -> None:
        self.beats += 1
        self.accepted += 1
        self.heartbeat.beat(self.accepted)
        # One batch at a time: what comes while one is unconfirmed waits in the outbox.
        if not self.in_flight:
            self.in_flight = True
            self.heartbeat.writing()
        if self.confirms:
            self.in_flight = False
            self.heartbeat.confirmed()
        if self.echoes:
            self.heartbeat.heard()

    def run(self, seconds: float, step_s: float | None = None) -> str:
        """Turn the clock until then or until the link is given up."""
        end = self.now + seconds
        while self.now < end:
            self.now += self.heartbeat.tick_s if step_s is None else step_s
            decision = self.heartbeat.tick(self.now, self.accepted)
            if decision == "beat":
                self.beat()
            elif decision != "wait":
                return decision
        return "alive"


@pytest.mark.parametrize(("probe_interval_s", "beat_s"), INTERVALS)
def test_an_idle_link_beats_once_per_probe_interval_and_lives(probe_interval_s: float, beat_s: float) -> None:
    link = Link(probe_interval_s, beat_s)
    assert link.run(probe_interval_s * 20) == "alive"
    assert 15 <= link.beats <= 20


@pytest.mark.parametrize(("probe_interval_s", "beat_s"), INTERVALS)
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
    assert link.now - fell_silent <= 2 * (probe_interval_s + link.heartbeat.tick_s) + 1e-6


def test_another_channels_torn_end_is_marked_soon_and_not_at_the_next_probe() -> None:
    link = Link(15.0, 1.0)
    assert link.run(3) == "alive"
    assert link.beats == 0
    assert link.heartbeat.tick(link.now + 1, link.accepted, unmarked_tail=True) == "beat"


def test_a_loop_that_its_host_blocked_is_not_a_dead_broker() -> None:
    link = Link(15.0, 1.0)
    link.echoes = False
    link.beat()
    # Ten ticks, each a minute late: ten minutes by the clock, twenty seconds of ticks at most.
    for _ in range(6):
        link.now += 60
        assert link.heartbeat.tick(link.now, link.accepted) == "wait"
    link.heartbeat.heard()
    link.echoes = True
    assert link.run(100) == "alive"


def test_an_echo_that_overtakes_its_confirmation_counts() -> None:
    link = Link(10.0, 1.0)
    link.accepted = 1
    link.heartbeat.beat(1)
    link.heartbeat.writing()
    link.heartbeat.heard()
    link.heartbeat.confirmed()
    # Were it still awaited, the link would be deaf after 10 s; as it is, the beat that follows then goes unheard.
    link.echoes = False
    assert link.run(15) == "alive"
    assert link.run(10) == "deaf"


def test_bytes_that_wait_to_be_read_are_life() -> None:
    link = Link(1.0, 1.0)
    link.echoes = False
    for _ in range(50):
        assert link.run(0.4) == "alive"
        link.heartbeat.behind()
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


def ticks(heartbeat: Heartbeat, start: float, count: int) -> list[str]:
    return [heartbeat.tick(start + number * heartbeat.tick_s, 0) for number in range(count)]


def test_a_pod_that_only_hears_asks_for_an_answer_once_a_beat() -> None:
    heartbeat = Heartbeat(probe_interval_s=1_000, beat_s=1.0)
    assert ticks(heartbeat, 0.0, 5) == ["wait"] * 5, "nothing came in: nothing can be missed unproven"
    heartbeat.received()
    assert heartbeat.tick(5.0, 0) == "ask"
    heartbeat.writing()
    assert heartbeat.tick(6.0, 0) == "wait", "an answer is due"
    heartbeat.confirmed()
    assert heartbeat.tick(7.0, 0) == "wait"
    heartbeat.received()
    assert heartbeat.tick(8.0, 0) == "ask"


def test_a_pod_that_also_sends_need_not_ask() -> None:
    heartbeat = Heartbeat(probe_interval_s=1_000, beat_s=1.0)
    for number in range(20):
        heartbeat.received()
        heartbeat.writing()
        heartbeat.confirmed()
        assert heartbeat.tick(number * 0.5, 0) == "wait"
