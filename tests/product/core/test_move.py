"""What a move does next: each phase ends, whatever either link brings, and only this pod's punctual time counts."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import pytest
from backplane_core import Lost
from backplane_core._link.marks import Marks, Sieve
from backplane_core._link.move import MARK_S, OVERLAP_S, PAUSE_S, TICK_S, Action, Move

TIMEOUT_S = 5.0


class Rig:
    """A move on a clock of its own, between links that forward what they are told to."""

    def __init__(self) -> None:
        self.now = 10.0
        self.marks = Marks("m")
        self.old, self.next = Sieve(self.marks), Sieve(self.marks)
        self.old.begin()
        self.next.begin()
        self.move = Move(self.marks, self.old, self.next, TIMEOUT_S, self.now)

    def until(self, goal: Action, *, old: bool = True, forwards: bool = True, is_reading: bool = False) -> float:
        """Follow the move until it wants this; return how long that took."""
        began = self.now
        for _ in range(10_000):
            step = self.move.step(self.now, is_reading=is_reading)
            if step.action == goal:
                return self.now - began
            assert step.action in {"mark", "wait"}
            if step.action == "mark":
                self.send(old=old, forwards=forwards)
            self.now += step.wait_s
        raise AssertionError(f"{goal} never comes")

    def send(self, *, old: bool = True, forwards: bool = True) -> None:
        mark = self.marks.next()
        for sieve, hears in ((self.old, old), (self.next, forwards)):
            if hears:
                assert sieve.sift([mark]) == []


def test_a_move_goes_through_its_phases() -> None:
    rig = Rig()
    assert rig.until("pause") == pytest.approx(OVERLAP_S)
    rig.move.paused(rig.now)
    assert rig.until("drain") == pytest.approx(PAUSE_S)
    rig.move.drain(rig.now)
    assert not rig.move.is_drained
    rig.send()
    assert rig.move.is_drained
    assert rig.move.step(rig.now).action == "wait", "the reader has to take the last of it"
    rig.move.took_over()
    assert rig.until("switch") == 0
    rig.move.switched(rig.now)
    assert rig.until("finish") == 0
    assert rig.move.forwards
    assert not rig.next.is_working, "no mark is on its way any longer"


def test_a_node_that_forwards_nothing_is_waited_for_once() -> None:
    rig = Rig()
    assert rig.until("pause", forwards=False) == pytest.approx(MARK_S + OVERLAP_S, abs=3 * TICK_S)
    assert not rig.move.forwards
    rig.move.paused(rig.now)
    assert rig.until("drain", forwards=False) == pytest.approx(PAUSE_S)
    rig.move.drain(rig.now)
    rig.send(forwards=False)
    rig.move.took_over()
    rig.move.switched(rig.now)
    assert rig.until("finish") == pytest.approx(MARK_S, abs=3 * TICK_S)
    assert rig.next.is_working, "a mark may come yet, and nobody may see it"


def test_a_mark_that_does_not_come_back_fails_in_time_but_not_while_the_reader_is_at_work() -> None:
    rig = Rig()
    rig.until("pause")
    rig.move.paused(rig.now)
    rig.until("drain")
    rig.move.drain(rig.now)
    rig.marks.next()
    for _ in range(1_000):
        assert rig.move.step(rig.now, is_reading=True).action == "wait"
        rig.now += TICK_S
    assert rig.until("fail") == pytest.approx(TIMEOUT_S, abs=3 * TICK_S)


def test_a_loop_that_is_late_does_not_end_a_phase() -> None:
    rig = Rig()
    assert rig.move.step(rig.now).action == "mark"
    rig.now += 60.0
    assert rig.move.step(rig.now).action == "mark", "nobody could have heard it meanwhile"
    assert rig.move.forwards


def test_the_marks_of_an_earlier_move_count_for_nothing_in_the_next() -> None:
    rig = Rig()
    rig.until("pause")
    again = Move(rig.marks, rig.old, rig.next, TIMEOUT_S, rig.now)
    assert again.step(rig.now).action == "mark"
    assert again.step(rig.now).action == "wait"


@pytest.mark.parametrize(
    ("mark", "number"),
    [(b"1", 1), (b"2", 2), (b"3", 0), (b"", 0), (b"x", 0), (b"-1", 0), (b"\xb2", 0), (b"9" * 5_000, 0)],
)
def test_a_mark_that_was_not_sent_counts_for_nothing(mark: bytes, number: int) -> None:
    marks = Marks("m")
    marks.next()
    marks.next()
    assert marks.number_of(mark) == number


def test_a_sieve_takes_out_marks_alone_until_the_last_has_come() -> None:
    marks = Marks("m")
    sieve = Sieve(marks)
    sieve.begin()
    first, second = marks.next(), marks.next()
    lost = Lost(None, "dropped")
    sieve.end()
    assert sieve.sift([("a", b"1"), first, lost, ("m", b"999999999")]) == [("a", b"1"), lost]
    assert (sieve.heard, sieve.is_working) == (1, True)
    assert sieve.sift([second]) == []
    assert not sieve.is_working
