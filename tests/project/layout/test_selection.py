"""What runs by default is enough: each broker and each routing; and nobody loses what he asked for by name."""

from __future__ import annotations

from tests.support.selection import beside_the_diagonal

FOUR = [(broker, routing) for broker in ("redis", "nats") for routing in ("broadcast", "interest")]


def test_of_four_combinations_each_broker_and_each_routing_runs_once() -> None:
    left_out = beside_the_diagonal([("a test", broker, routing) for broker, routing in FOUR])
    assert [FOUR[number] for number in sorted(left_out)] == [("redis", "interest"), ("nats", "broadcast")]


def test_each_test_has_a_diagonal_of_its_own_whatever_its_other_parameters() -> None:
    tests = [(other, broker, routing) for other in (1, 2) for broker, routing in FOUR]
    assert beside_the_diagonal(tests) == {1, 2, 5, 6}


def test_a_test_that_has_some_of_the_four_or_none_runs_whole() -> None:
    assert beside_the_diagonal([("a test", *pair) for pair in FOUR[:3]]) == set()
    assert beside_the_diagonal([None, ("one alone", "redis", "interest"), None]) == set()
