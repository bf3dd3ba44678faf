"""Since when events may be missing: by proofs, on a clock that the test turns."""

from __future__ import annotations

from backplane_core._links import Pulse
from backplane_core._outage import Outage


def live(outage: Outage) -> Outage:
    """As after a first link went live at 10."""
    outage.proved(10.0)
    assert outage.live()
    assert outage.end(10.0, settling=False) == 0.0
    return outage


def test_it_begins_at_the_last_answer_and_not_at_the_last_frame() -> None:
    outage = live(Outage(0.0))
    outage.proved(12.0)
    outage.lost("cut")
    assert outage.deaf_since == 12.0
    assert outage.live()
    assert outage.deaf_since is None
    assert outage.end(20.0, settling=False) == 12.0


def test_an_older_answer_proves_nothing_new() -> None:
    outage = live(Outage(0.0))
    outage.proved(12.0)
    outage.proved(11.0)
    outage.lost("cut")
    assert outage.deaf_since == 12.0


def test_a_link_that_dies_before_it_was_live_is_the_same_outage() -> None:
    outage = live(Outage(0.0))
    outage.lost("cut")
    outage.proved(15.0)  # its subscriptions, but not all
    outage.lost("cut again")
    assert outage.live()
    assert outage.end(20.0, settling=False) == 10.0
    assert outage.reason == "cut again"


def test_a_links_first_frame_ends_the_span_once_and_what_is_not_confirmed_yet_begins_another() -> None:
    outage = live(Outage(0.0))
    assert not outage.ends_with_frame(), "no span"
    outage.lost("cut")
    assert outage.ends_with_frame()
    assert outage.end(20.0, settling=True) == 10.0
    assert not outage.ends_with_frame(), "once per link"
    assert outage.live()
    assert outage.end(25.0, settling=False) == 20.0
    assert not outage.live()


def ticks(pulse: Pulse, start: float, count: int) -> list[str]:
    return [pulse.tick(start + number * pulse.tick_s, 0) for number in range(count)]


def test_a_pod_that_only_hears_asks_for_an_answer_once_a_beat() -> None:
    pulse = Pulse(probe_interval_s=1_000, beat_s=1.0)
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
    pulse = Pulse(probe_interval_s=1_000, beat_s=1.0)
    for number in range(20):
        pulse.received()
        pulse.writing()
        pulse.confirmed()
        assert pulse.tick(number * 0.5, 0) == "wait"
