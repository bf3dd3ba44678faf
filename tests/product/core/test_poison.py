"""The search for the frame that links die of: it finds each, gives up no other, and takes few links."""

from __future__ import annotations

from math import log2

from backplane_core import Frame
from backplane_core._outbound.outbox import Outbox
from backplane_core._outbound.poison import PoisonSearch
from hypothesis import given
from hypothesis import strategies as st

BATCH_BYTES = 1_000


def line(sizes: list[int]) -> list[Frame]:
    return [(f"c{number}", b"x" * size) for number, size in enumerate(sizes)]


def send_all(frames: list[Frame], poison: set[int]) -> tuple[list[Frame], list[Frame], int]:
    """Send a line over links that die of some frames; return what was confirmed, what was given up, and deaths."""
    outbox, search = Outbox(1_000, 1_000_000), PoisonSearch()
    for frame in frames:
        assert outbox.offer(frame)
    bad = {id(frames[number]) for number in poison}
    confirmed: list[Frame] = []
    given_up: list[Frame] = []
    deaths = 0
    while batch := list(outbox.take(BATCH_BYTES, max_frames=search.limit)):
        if any(id(frame) in bad for frame in batch):
            deaths += 1
            is_poison = search.died(batch)
            given_up += outbox.lost(resend=not is_poison)
        else:
            confirmed += batch
            search.confirmed(outbox.confirm())
    return confirmed, given_up, deaths


@given(st.lists(st.integers(1, 400), min_size=1, max_size=120), st.data())
def test_every_poison_is_given_up_and_all_others_are_confirmed_in_order(sizes: list[int], data: st.DataObject) -> None:
    frames = line(sizes)
    poison = data.draw(st.sets(st.integers(0, len(frames) - 1), max_size=5))
    confirmed, given_up, deaths = send_all(frames, poison)
    assert given_up == [frames[number] for number in sorted(poison)]
    assert confirmed == [frame for number, frame in enumerate(frames) if number not in poison]
    assert deaths <= len(poison) * (2 + log2(len(frames)))


@given(st.lists(st.sampled_from(["dies", "lives"]), max_size=60), st.integers(1, 200))
def test_a_frame_is_given_up_only_when_two_links_in_a_row_died_of_it_alone(fates: list[str], count: int) -> None:
    outbox, search = Outbox(1_000, 1_000_000), PoisonSearch()
    for frame in line([1] * count):
        outbox.offer(frame)
    alone: list[Frame] = []
    for fate in fates:
        batch = list(outbox.take(BATCH_BYTES, max_frames=search.limit))
        if fate == "lives":
            search.confirmed(outbox.confirm())
            alone.clear()
            continue
        alone = [*alone, *batch] if len(batch) == 1 else []
        expected = len(alone) >= 2 and alone[-1] is alone[-2]
        assert search.died(batch) is expected
        outbox.lost(resend=not expected)
        if expected:
            alone.clear()


def test_a_link_that_was_handed_nothing_died_of_nothing_that_was_sent() -> None:
    search = PoisonSearch()
    assert not search.died([])
    assert search.limit is None
    assert not search.is_close


def test_one_bad_frame_among_six_hundred_takes_eleven_links() -> None:
    frames = line([1] * 600)
    for place in (0, 299, 300, 599):
        confirmed, given_up, deaths = send_all(frames, {place})
        assert (len(confirmed), given_up) == (599, [frames[place]])
        assert deaths <= 11
