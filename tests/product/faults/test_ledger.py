"""The ledger can fail: each kind of wrong is seen, and only what a promise covers is excused."""

from __future__ import annotations

import time

import pytest
from backplane_core import Gap

from tests.product.faults.ledger import Event, Ledger, Witness


def ledger(count: int, targets: tuple[str, ...] = ("u1",)) -> tuple[Ledger, Witness, list[Event]]:
    """A ledger with one socket on pod `here`, and so many events that `there` published."""
    book = Ledger()
    witness = book.witness("c1", targets, "here")
    return book, witness, [book.new("there", "u1") for _ in range(count)]


def gap(since: float, until: float) -> Gap:
    return Gap(channel="ch", cause="reconnect", reason="", since=since, until=until)


def test_what_arrived_once_each_and_in_order_is_clean() -> None:
    book, witness, events = ledger(5)
    for event in events:
        witness.take(list(event))
    book.assert_clean()
    assert book.everywhere()
    assert book.missing == 0


def test_two_publishers_and_two_targets_may_interleave_as_they_like() -> None:
    book, witness, events = ledger(3, ("u1", "u2"))
    others = [book.new("third", "u2") for _ in range(3)]
    for event in (others[0], events[0], events[1], others[1], others[2], events[2]):
        witness.take(event)
    book.assert_clean()


@pytest.mark.parametrize(
    ("order", "fault"),
    [
        ([0, 1, 1, 2], "1 duplicates: there/u1#1"),
        ([0, 2, 1], "1 inversions: there/u1#1"),
        ([0, 2], "1 unexplained: there/u1#1"),
        ([0, 1], "1 unexplained: there/u1#2"),
        ([1, 2], "1 unexplained: there/u1#0"),
    ],
)
def test_a_copy_a_swap_and_a_loss_are_faults(order: list[int], fault: str) -> None:
    book, witness, events = ledger(3)
    for number in order:
        witness.take(events[number])
    with pytest.raises(AssertionError, match=fault):
        book.assert_clean()


def test_what_nobody_published_and_what_was_meant_for_others_are_aliens() -> None:
    book, witness, events = ledger(1)
    witness.take(events[0])
    witness.take(("nobody", "u1", 0))
    witness.take(book.new("there", "u2"))
    with pytest.raises(AssertionError, match="2 aliens"):
        book.assert_clean()


def test_a_gap_excuses_what_was_published_inside_it_and_nothing_else() -> None:
    book, witness, events = ledger(4)
    for number, event in enumerate(events):
        book.at[event] = 100.0 + number
    witness.since = 0.0
    witness.take(events[0])
    witness.gaps.append(gap(100.9, 102.1))
    assert book.verdict(witness).missing == events[1:]
    assert book.verdict(witness).unexplained == [events[3]]
    witness.gaps.append(gap(102.96, 102.97))
    book.assert_clean()


def test_an_event_that_waited_at_its_publisher_is_excused_by_a_gap_while_it_waited_and_no_later_one() -> None:
    book, witness, events = ledger(2)
    for event in events:
        book.at[event], book.left[event] = 100.0, 103.0
    book.at[events[1]], book.left[events[1]] = 100.0, 101.0
    witness.since = 0.0
    witness.gaps.append(gap(102.0, 102.5))
    assert book.verdict(witness).unexplained == [events[1]]


def test_a_drop_that_its_publisher_counted_is_excused_by_name_or_by_number() -> None:
    book, witness, events = ledger(5)
    witness.take(events[0])
    book.dropped.add(events[1])
    book.anonymous["there"] = 2
    assert book.verdict(witness).unexplained == [events[4]]
    book.anonymous["elsewhere"] = 2
    assert book.verdict(witness).unexplained == [events[4]]


def test_of_a_killed_publisher_a_tail_is_excused_and_a_hole_is_not() -> None:
    book, witness, events = ledger(5)
    book.killed.add("there")
    for number in (0, 1, 3):
        witness.take(events[number])
    assert book.verdict(witness).missing == [events[2], events[4]]
    assert book.verdict(witness).unexplained == [events[2]]


def test_on_the_publishers_own_pod_nothing_is_excused() -> None:
    book = Ledger()
    witness = book.witness("c1", ["u1"], "here")
    witness.take(book.new("here", "u1"))
    book.dropped.add(book.new("here", "u1"))
    witness.gaps.append(gap(time.time() - 10, time.time() + 10))
    with pytest.raises(AssertionError, match="1 local: here/u1#1"):
        book.assert_clean()


def test_a_socket_answers_for_its_own_time_alone() -> None:
    book, witness, events = ledger(3)
    for number, event in enumerate(events):
        book.at[event] = 100.0 + number
    witness.since, witness.until = 100.5, 101.5
    witness.take(events[1])
    book.assert_clean()


def test_a_run_that_saw_nothing_is_not_clean() -> None:
    book = Ledger()
    witness = book.witness("c1", ["u1"], "here")
    with pytest.raises(AssertionError, match="nothing was published"):
        book.assert_clean()
    book.dropped.add(book.new("there", "u1"))
    with pytest.raises(AssertionError, match="nothing was delivered"):
        book.assert_clean()
    assert not book.everywhere()
    assert witness.events == []


def test_a_long_run_is_checked_and_forgotten_piece_by_piece() -> None:
    book, witness, old = ledger(3)
    for event in old:
        book.at[event] = time.time() - 100
        witness.take(event)
    witness.since = 0.0
    young = [book.new("there", "u1") for _ in range(2)]
    witness.take(young[0])
    book.check_and_forget(older_than_s=60)
    assert list(book.at) == young
    assert witness.events == young[:1]
    with pytest.raises(AssertionError, match="1 unexplained: there/u1#4"):
        book.assert_clean()
    witness.take(young[1])
    book.assert_clean()


def test_a_loss_is_not_forgotten_unseen() -> None:
    book, witness, old = ledger(3)
    for event in old:
        book.at[event] = time.time() - 100
    witness.since = 0.0
    witness.take(old[0])
    witness.take(old[2])
    with pytest.raises(AssertionError, match="1 unexplained: there/u1#1"):
        book.check_and_forget(older_than_s=60)
