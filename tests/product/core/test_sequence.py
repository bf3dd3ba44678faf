"""Numbers: no copy is ever delivered, no hole goes untold, and a bounded memory errs on the safe side."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import random

import pytest
from attrs import define
from backplane_core._protocol.heard_numbers import MAX_NUMBERS, HeardNumbers
from backplane_core._protocol.numbering import Numbering
from backplane_core._protocol.sequence import DUPLICATE, UNCOUNTED, Tracker
from hypothesis import given, settings
from hypothesis import strategies as st

CHANNELS = ("a", "b", "c")


@define(frozen=True)
class Sent:
    channel: str
    origin: str
    seq: int
    prev: int | None


def accept(tracker: Tracker, frame: Sent) -> int:
    return tracker.accept(frame.channel, frame.origin, frame.seq, frame.prev)


@settings(max_examples=400)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(CHANNELS),
            st.sampled_from(["o1", "o2"]),
            st.sampled_from(["send", "send", "send", "drop", "copy", "old copies", "cut"]),
        ),
        max_size=80,
    )
)
def test_whatever_is_dropped_or_doubled_no_copy_passes_and_holes_are_counted_exactly(
    plan: list[tuple[str, str, str]],
) -> None:
    numbering = {origin: Numbering() for origin in ("o1", "o2")}
    tracker = Tracker(ttl_s=300)
    arrived: dict[tuple[str, str], list[Sent]] = {}
    dropped: dict[tuple[str, str], int] = {}
    # Before the first frame of an origin, and across a cut, there is nothing to count from.
    fresh: set[tuple[str, str]] = {(channel, origin) for channel in CHANNELS for origin in ("o1", "o2")}
    for channel, origin, step in plan:
        key = (channel, origin)
        if step == "cut":
            tracker.cut()
            fresh = {(channel, origin) for channel in CHANNELS for origin in ("o1", "o2")}
        elif step == "copy" or step == "old copies":  # noqa: PLR1714 -- reads as the plan does
            known = arrived.get(key, [])
            for frame in known if step == "old copies" else known[-1:]:
                assert accept(tracker, frame) == DUPLICATE
        else:
            seq, prev = numbering[origin].take(channel)
            if step == "drop":
                dropped[key] = dropped.get(key, 0) + 1
                continue
            frame = Sent(channel, origin, seq, prev)
            assert accept(tracker, frame) == (0 if key in fresh else dropped.get(key, 0))
            arrived.setdefault(key, []).append(frame)
            dropped[key] = 0
            fresh.discard(key)


def test_numbers_count_from_one_on_each_channel() -> None:
    numbering = Numbering()
    got: list[tuple[int, int | None]] = []
    for channel in ("a", "b", "a", "a", "b"):
        peeked = numbering.peek(channel)
        got.append(numbering.take(channel))
        assert got[-1] == peeked
    assert got == [(1, None), (1, None), (2, 1), (3, 2), (2, 1)]
    assert numbering.peek("a") == numbering.peek("a")


@given(st.lists(st.sampled_from("abcdef"), max_size=200), st.integers(1, 5))
def test_a_forgotten_channel_never_makes_a_new_frame_look_like_a_copy_nor_a_hole(
    channels: list[str], room: int
) -> None:
    numbering = Numbering(max_channels=room)
    tracker = Tracker(ttl_s=300)
    for channel in channels:
        seq, prev = numbering.take(channel)
        assert tracker.accept(channel, "o", seq, prev) == 0
        assert len(numbering._numbers) <= room


def test_a_hole_across_a_cut_belongs_to_the_cuts_own_gap_but_copies_stay_known() -> None:
    tracker = Tracker(ttl_s=300)
    assert tracker.accept("a", "o", 1, None) == 0
    assert tracker.accept("a", "o", 2, 1) == 0
    tracker.cut()
    assert tracker.accept("a", "o", 2, 1) == DUPLICATE
    assert tracker.accept("a", "o", 9, 8) == 0
    assert tracker.accept("a", "o", 2, 1) == DUPLICATE
    assert tracker.accept("a", "o", 12, 11) == 2
    tracker.cut()
    tracker.cut()
    assert tracker.accept("a", "o", 12, 11) == DUPLICATE


def test_a_hole_across_a_cut_counts_at_once_where_frames_were_refused_meanwhile() -> None:
    tracker = Tracker(ttl_s=300)
    for now, channel in ((1.0, "a"), (1.5, "b")):
        tracker.now = tracker.read_at = now
        tracker.accept(channel, "o", 1, None)
    tracker.now = tracker.read_at = 2.0
    tracker.refused("a", "o")
    tracker.refused("b", "another")
    tracker.cut()
    tracker.now = tracker.read_at = 3.0
    assert tracker.accept("b", "o", 9, 8) == 0, "nothing was refused there"
    assert tracker.accept("a", "o", 7, 6) == 5
    assert tracker.hole_since == 1.0
    tracker.cut()
    tracker.now = tracker.read_at = 4.0
    assert tracker.accept("a", "o", 9, 8) == 0, "and nothing since"


def test_a_sender_whose_first_frames_were_refused_has_a_hole_before_the_first_that_was_not() -> None:
    tracker = Tracker(ttl_s=300)
    tracker.now = tracker.read_at = 2.0
    for origin in ("o", "newer"):
        tracker.refused("a", origin)
    tracker.now = tracker.read_at = 3.0
    tracker.refused("a", "o")
    assert tracker.accept("a", "newer", 5, None) == 0, "its first"
    assert tracker.accept("a", "another", 5, 4) == 0, "none of its own was refused"
    assert tracker.accept("b", "o", 5, 4) == 0, "another channel"
    assert tracker.accept("a", "o", 5, 4) == UNCOUNTED
    assert tracker.hole_since == 2.0
    assert tracker.accept("a", "o", 6, 5) == 0
    tracker.refused("a", "third")
    tracker.leave("a", 4.0)
    tracker.heard("a", 5.0)
    tracker.now = tracker.read_at = 6.0
    assert tracker.accept("a", "third", 5, 4) == 0, "it was not heard for a while"


def test_what_was_refused_on_a_channel_that_was_left_and_taken_up_again_is_a_hole_and_what_passed_before_is_none() -> (
    None
):
    tracker = Tracker(ttl_s=300)
    tracker.now = tracker.read_at = 1.0
    for origin in ("o", "p"):
        tracker.accept("a", origin, 1, None)
    tracker.leave("a", 2.0)
    tracker.heard("a", 5.0)
    tracker.now = tracker.read_at = 6.0
    assert tracker.accept("a", "p", 9, 8) == 0
    tracker.refused("a", "o")
    tracker.now = tracker.read_at = 7.0
    assert tracker.accept("a", "o", 9, 8) == UNCOUNTED
    assert tracker.hole_since == 6.0
    assert tracker.accept("a", "o", 10, 9) == 0
    assert tracker.accept("a", "p", 12, 11) == 2, "on one link it is counted"


def test_what_was_refused_while_all_was_is_in_that_gap_unless_it_was_refused_before() -> None:
    tracker = Tracker(ttl_s=300)
    tracker.accept("a", "o", 1, None)
    tracker.accept("b", "o", 1, None)
    tracker.now = tracker.read_at = 2.0
    tracker.refused("b", "o")
    tracker.now = tracker.read_at = 3.0
    for origin in ("o", "new"):
        tracker.refused("a", origin)
    tracker.refuses_all(3.0)
    assert tracker.accept("a", "o", 9, 8) == 0
    assert tracker.accept("b", "o", 9, 8) == 7
    tracker.accepts_again()
    assert tracker.accept("a", "new", 9, 8) == 0
    tracker.now = tracker.read_at = 4.0
    tracker.refused("a", "newer")
    assert tracker.accept("a", "newer", 9, 8) == UNCOUNTED


def test_refusals_are_forgotten_with_the_numbers_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backplane_core._protocol.refused_frames.MAX_CHANNELS", 3)
    tracker = Tracker(ttl_s=10)
    for number in range(5):
        tracker.now = tracker.read_at = float(number)
        for origin in "op":
            tracker.refused(f"c{number}", origin)
    assert [tracker.accept(f"c{number}", "o", 2, 1) for number in range(5)] == [0, 0, *[UNCOUNTED] * 3]
    tracker.expire(13.5)
    assert [tracker.accept(f"c{number}", "p", 2, 1) for number in range(5)] == [0, 0, 0, 0, UNCOUNTED]


def test_more_senders_than_are_remembered_on_a_channel_may_be_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backplane_core._protocol.refused_frames.MAX_ORIGINS", 2)
    tracker = Tracker(ttl_s=10)
    tracker.now = tracker.read_at = 1.0
    for origin in ("o", "p"):
        tracker.refused("a", origin)
    assert tracker.accept("a", "q", 5, 4) == 0
    tracker.now = tracker.read_at = 2.0
    tracker.refused("a", "one too many")
    assert tracker.accept("a", "r", 5, 4) == UNCOUNTED
    assert tracker.hole_since == 2.0
    assert tracker.accept("a", "o", 5, 4) == UNCOUNTED
    assert tracker.hole_since == 1.0


def test_without_a_previous_number_tracking_starts_afresh() -> None:
    tracker = Tracker(ttl_s=300)
    tracker.accept("a", "o", 1, None)
    assert tracker.accept("a", "o", 50, None) == 0
    assert tracker.accept("a", "o", 52, 51) == 1


def test_an_origin_is_forgotten_when_its_last_frame_is_older_than_its_time_and_not_before() -> None:
    tracker = Tracker(ttl_s=300)
    tracker.accept("a", "o", 1, None)
    for now in (200, 400, 600):
        tracker.read_at = now
        tracker.expire(tracker.read_at)
        assert tracker.accept("a", "o", now, now - 1) > 0
        assert tracker.accept("a", "o", now, now - 1) == DUPLICATE
    tracker.read_at = 901
    tracker.expire(tracker.read_at)
    assert (len(tracker.numbers), tracker.numbers.channels) == (0, {})
    assert tracker.accept("a", "o", 1, None) == 0


def test_an_origin_is_remembered_through_cuts_and_then_forgotten_whole() -> None:
    tracker = Tracker(ttl_s=10)
    tracker.accept("a", "o", 5, None)
    tracker.cut()
    tracker.read_at = 9
    tracker.expire(tracker.read_at)
    assert tracker.accept("a", "o", 5, None) == DUPLICATE
    tracker.read_at = 25
    tracker.expire(tracker.read_at)
    assert (len(tracker.numbers), tracker.numbers.channels) == (0, {})


def test_what_was_read_after_a_long_outage_is_remembered_although_nothing_proves_yet_when_it_passed() -> None:
    tracker = Tracker(ttl_s=10)
    tracker.read_at = 100  # nothing is proven since 1
    tracker.now = 1
    tracker.accept("a", "o", 5, None)
    tracker.expire(105)
    assert tracker.accept("a", "o", 5, None) == DUPLICATE
    tracker.expire(111)
    assert len(tracker.numbers) == 0


def test_a_channel_that_was_left_misses_nothing_meanwhile_and_still_knows_its_copies() -> None:
    tracker = Tracker(ttl_s=300)
    tracker.accept("a", "o", 5, None)
    tracker.leave("a", 1.0)
    tracker.leave("never heard", 1.0)
    tracker.heard("a", 2.0)
    tracker.now = 3.0
    assert tracker.accept("a", "o", 5, None) == DUPLICATE
    assert tracker.accept("a", "o", 9, 8) == 0
    assert tracker.accept("a", "o", 9, 8) == DUPLICATE
    assert tracker.accept("a", "o", 12, 11) == 2


def test_frames_that_were_read_late_on_a_channel_that_was_left_claim_no_hole_when_it_is_heard_again() -> None:
    """The reader is behind: it takes 6, which came before the channel was left, when that is heard again already."""
    tracker = Tracker(ttl_s=300)
    tracker.accept("a", "o", 5, 4)
    tracker.leave("a", 1.0)
    tracker.heard("a", 2.0)
    tracker.now = 0.5  # all that passed the broker until then was read
    assert tracker.accept("a", "o", 6, 5) == 0
    assert tracker.accept("a", "o", 57, 56) == 0  # from here on it was heard
    assert tracker.accept("a", "o", 57, 56) == DUPLICATE
    tracker.now = 2.5
    assert tracker.accept("a", "o", 58, 57) == 0
    assert tracker.accept("a", "o", 60, 59) == 1


def test_frames_that_nobody_wants_any_longer_leave_no_number_to_count_from() -> None:
    tracker = Tracker(ttl_s=300)
    tracker.leave("a", 1.0)
    tracker.now = 1.5
    assert tracker.accept("a", "o", 6, 5) == 0
    tracker.heard("a", 2.0)
    tracker.now = 2.5
    assert tracker.accept("a", "o", 57, 56) == 0


def test_channels_that_are_left_for_good_are_forgotten() -> None:
    tracker = Tracker(ttl_s=10)
    for channel in range(100):
        tracker.leave(str(channel), 0.0)
    for _ in range(3):
        tracker.expire(11.0)
    assert tracker._left == {}


@pytest.mark.parametrize("seed", range(5))
def test_a_stream_of_ten_thousand_with_losses_and_resends_is_delivered_once_and_counted(seed: int) -> None:
    chance = random.Random(seed)
    numbering, tracker = Numbering(), Tracker(ttl_s=300)
    delivered: list[int] = []
    missing = lost = 0
    batch: list[Sent] = []
    for _ in range(10_000):
        seq, prev = numbering.take("a")
        batch.append(Sent("a", "o", seq, prev))
        if len(batch) == 20:
            arriving = [frame for frame in batch if chance.random() > 0.05]
            # The sender does not know how much of its batch arrived and sends it again.
            again = arriving if chance.random() < 0.3 else []
            for frame in [*arriving[: chance.randrange(21)], *arriving] if again else arriving:
                result = accept(tracker, frame)
                if result != DUPLICATE:
                    delivered.append(frame.seq)
                    missing += result
            batch = []
    lost = delivered[-1] - (delivered[0] - 1) - len(delivered)
    assert delivered == sorted(set(delivered))
    assert missing == lost > 0


AWAY_S = 30
MOVE_S = 300
"""How often the link is replaced."""


def channel_of(target: int) -> str:
    return f"c:@user:{target}"


class Sender:
    """A sender of a fleet, and what it last sent to each target."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.numbering = Numbering()

    def frame(self, target: int) -> tuple[str, str, int, int | None]:
        channel = channel_of(target)
        seq, prev = self.numbering.take(channel)
        return channel, self.name, seq, prev


@pytest.mark.thorough
@pytest.mark.parametrize("to_a_few", [0.0, 0.5], ids=["evenly", "half of it to a few"])
@pytest.mark.timeout(7200)
def test_a_large_fleet_claims_no_hole_in_an_hour_though_numbers_are_evicted(to_a_few: float, *, long: bool) -> None:
    """100 senders, 20,000 targets, 5,000 events a second for an hour; one target a second is left for half a minute.

    At full size, with two million pairs, twice as many as there is room for, it takes some minutes and 1 GB:
    `uv run pytest tests/product/core/test_sequence.py -k hour --long`. Otherwise it has a 200th of the targets, of
    the places for numbers and of the events, which shows the same in seconds.
    """
    share = 1 if long else 200
    targets, a_second = 20_000 // share, 5_000 // share
    chance = random.Random(7)
    tracker = Tracker(330.0, HeardNumbers(MAX_NUMBERS // share))
    senders = [Sender(f"pod-{number}") for number in range(100)]
    away: dict[int, int] = {}
    copies = skipped = 0
    for second in range(3_600):
        tracker.now = tracker.read_at = float(second)
        for target in [target for target, back in away.items() if back == second]:
            del away[target]
            tracker.heard(channel_of(target), tracker.now)
        if not second % share and (leaving := chance.randrange(targets)) not in away:
            away[leaving] = second + AWAY_S
            tracker.leave(channel_of(leaving), tracker.now)
        if not second % MOVE_S:
            tracker.cut()
        for number in range(a_second):
            target = chance.randrange(20 if chance.random() < to_a_few else targets)
            channel, origin, seq, prev = chance.choice(senders).frame(target)
            if target in away:
                skipped += 1
                continue
            if not tracker.follows(channel, origin, seq, prev):
                assert tracker.accept(channel, origin, seq, prev) == 0, "nothing is missing"
            if not number:  # sent again at once, as after a cut
                copies += tracker.accept(channel, origin, seq, prev) == DUPLICATE
        tracker.expire(tracker.now)
    assert 3_500 < copies <= 3_600
    assert skipped > 20
    assert len(tracker.numbers) <= tracker.numbers.max_numbers
    assert (tracker.numbers.evicted > 0) is (to_a_few == 0)
