"""The outbox: order, bounds and the books, against a list that is too simple to be wrong."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from backplane_core import Frame
from backplane_core._outbound.outbox import Outbox
from hypothesis import given, settings
from hypothesis import strategies as st

steps = st.one_of(
    st.tuples(st.just("offer"), st.integers(0, 40)),
    st.tuples(st.just("take"), st.integers(1, 100)),
    st.tuples(st.sampled_from(["confirm", "lost", "lost for good"]), st.just(0)),
    st.tuples(st.sampled_from(["discard", "evict"]), st.integers(0, 40)),
)


class Place:
    """A mark that knows whether it was told that it is passed."""

    behind = 0
    passed = False

    def set(self, confirmed: bool, /) -> None:  # noqa: FBT001 -- as of a `Mark`
        assert confirmed
        assert not self.passed
        self.passed = True


def can_fit(in_flight: list[Frame], size: int, max_messages: int, max_bytes: int) -> bool:
    """Whether a frame would have room if nothing waited."""
    return len(in_flight) < max_messages and size_of(in_flight) + size <= max_bytes


def size_of(frames: list[Frame]) -> int:
    return sum(len(frame[1]) for frame in frames)


def larger_than(size: int) -> Callable[[Frame], bool]:
    return lambda frame: len(frame[1]) > size


@settings(max_examples=400)
@given(st.integers(1, 8), st.integers(20, 120), st.lists(steps, max_size=60))
def test_frames_keep_their_order_and_each_is_either_confirmed_or_returned_or_still_there(  # noqa: C901 -- one branch for each thing an outbox does
    max_messages: int, max_bytes: int, plan: list[tuple[str, int]]
) -> None:
    outbox = Outbox(max_messages, max_bytes)
    waiting: list[Frame] = []
    in_flight: list[Frame] = []
    accepted = settled = 0
    for number, (step, size) in enumerate(plan):
        held = waiting + in_flight
        if step == "offer":
            frame = (str(number), b"x" * size)
            fits = len(held) < max_messages and size_of(held) + size <= max_bytes
            assert outbox.offer(frame) is fits
            if fits:
                waiting.append(frame)
                accepted += 1
        elif step == "take" and not in_flight:
            taken = list(outbox.take(size))
            assert taken == waiting[: len(taken)]
            assert bool(taken) == bool(waiting)
            # One more only while there was room, and never one less.
            assert size_of(taken[:-1]) < size
            if len(taken) < len(waiting):
                assert size_of(taken) >= size
            in_flight, waiting = taken, waiting[len(taken) :]
        elif step == "confirm":
            assert outbox.confirm() == len(in_flight)
            settled += len(in_flight)
            in_flight = []
        elif step == "lost":
            assert outbox.lost(resend=True) == []
            waiting, in_flight = in_flight + waiting, []
        elif step == "lost for good":
            assert outbox.lost(resend=False) == in_flight
            settled += len(in_flight)
            in_flight = []
        elif step == "discard":
            dropped = outbox.discard(larger_than(size))
            assert dropped == [frame for frame in waiting if len(frame[1]) > size]
            settled += len(dropped)
            waiting = [frame for frame in waiting if len(frame[1]) <= size]
        elif step == "evict":
            evicted = outbox.evict(size)
            # The oldest that wait, as few as will do; what is in flight stays, and none goes for what can't fit.
            assert evicted == waiting[: len(evicted)]
            waiting = waiting[len(evicted) :]
            settled += len(evicted)
            if evicted:
                assert size <= max_bytes
                kept = [evicted[-1], *waiting, *in_flight]
                assert len(kept) >= max_messages or size_of(kept) + size > max_bytes
            # Where what is in flight alone leaves no room, nothing that waits is dropped in vain.
            assert outbox.has_room(size) or not can_fit(in_flight, size, max_messages, max_bytes)
        held = waiting + in_flight
        assert (outbox.messages, outbox.bytes) == (len(held), size_of(held))
        assert (outbox.accepted, outbox.accepted - outbox.messages) == (accepted, settled)
        assert outbox.over_half == (len(held) * 2 > max_messages or outbox.bytes * 2 > max_bytes)


@pytest.mark.parametrize("seed", range(20))
def test_a_mark_knows_how_many_of_the_frames_before_it_are_left(seed: int) -> None:  # noqa: C901 -- likewise
    chance = random.Random(seed)
    outbox = Outbox(8, 100)
    line: list[str] = []
    in_flight = 0
    marks: list[tuple[Place, set[str]]] = []
    for number in range(1_000):
        step = chance.choice(
            ["offer", "offer", "offer", "take", "settle", "lost", "discard", "evict", "mark", "forget"]
        )
        if step == "offer" and outbox.offer((str(number), b"x" * chance.randrange(30))):
            line.append(str(number))
        elif step == "take" and not in_flight:
            in_flight = len(outbox.take(chance.randrange(1, 60)))
        elif step == "settle":
            if chance.random() < 0.5:
                outbox.confirm()
            else:
                outbox.lost(resend=False)
            del line[:in_flight]
            in_flight = 0
        elif step == "lost":
            outbox.lost(resend=True)
            in_flight = 0
        elif step == "discard":
            gone = {frame[0] for frame in outbox.discard(larger_than(chance.randrange(5, 30)))}
            line = [name for name in line if name not in gone]
        elif step == "evict":
            del line[in_flight : in_flight + len(outbox.evict(chance.randrange(60)))]
        elif step == "mark" and len(marks) < 5:
            outbox.mark(mark := Place())
            marks.append((mark, set(line)))
        elif step == "forget" and marks:
            mark, _ = marks.pop(chance.randrange(len(marks)))
            if not mark.passed:
                outbox.forget(mark)
        left = [0 if mark.passed else mark.behind - outbox.settled for mark, _ in marks]
        assert left == [len(before & set(line)) for _, before in marks]
        assert [mark.passed for mark, _ in marks] == [not count for count in left]


def test_a_frame_that_can_never_fit_evicts_nothing() -> None:
    outbox = Outbox(2, 100)
    outbox.offer(("c", b"x" * 100))
    assert outbox.evict(101) == []
    assert [len(frame[1]) for frame in outbox.evict(100)] == [100]


def test_a_forgotten_mark_is_told_nothing() -> None:
    outbox = Outbox(2, 100)
    outbox.offer(("c", b"1"))
    outbox.mark(mark := Place())
    outbox.mark(other := Place())
    outbox.forget(mark)
    outbox.take(100)
    outbox.confirm()
    assert (mark.passed, other.passed) == (False, True)
    outbox.forget(other)


def test_what_is_in_flight_counts_towards_the_bounds() -> None:
    outbox = Outbox(2, 1_000)
    assert outbox.offer(("c", b"1"))
    assert outbox.take(100) == [("c", b"1")]
    assert outbox.offer(("c", b"2"))
    assert not outbox.offer(("c", b"3"))
    outbox.confirm()
    assert outbox.offer(("c", b"3"))


def test_a_frame_larger_than_a_write_still_goes_out_alone() -> None:
    outbox = Outbox(10, 1_000)
    for size in (500, 1):
        outbox.offer(("c", b"x" * size))
    assert [len(frame[1]) for frame in outbox.take(100)] == [500]
