"""What runs by default is enough: each broker and each routing; and nobody loses what he asked for by name."""

from __future__ import annotations

import pytest

from tests.support.parts import Part, Seeds
from tests.support.selection import beside_the_diagonal, not_in_part, one_of_two_brokers

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


def test_above_the_seam_each_test_runs_over_one_broker_by_default_and_by_turns() -> None:
    tests = [(name, broker) for name in ("a", "b", "c") for broker in ("redis", "nats")]
    left_out = one_of_two_brokers([None, *tests, ("alone", "nats")])
    assert [tests[number - 1] for number in sorted(left_out)] == [("a", "redis"), ("b", "nats"), ("c", "redis")]


def test_as_many_commits_as_there_are_parts_take_all_of_it_once() -> None:
    for first in (0, 7, 4711):
        taken = [place for number in range(first, first + 10) for place in range(95) if Part(number, 10).has(place)]
        assert sorted(taken) == list(range(95))


@pytest.mark.parametrize("text", ["", "3", "3/0", "-1/3", "a/b", "1/3/5"])
def test_what_is_no_part_is_refused(text: str) -> None:
    assert Part.parse("7/10") == Part(7, 10)
    with pytest.raises(ValueError, match="is no part"):
        Part.parse(text)


def test_a_part_of_the_seeds_comes_on_top_of_those_that_are_always_played() -> None:
    default, full, long = range(0, 20, 2), range(0, 60, 2), range(0, 600, 2)

    def played(**how: bool) -> list[list[int]]:
        parts = [Part(number, 4) for number in range(4)]
        return [
            [*Seeds(**{"full": False, "long": False, **how}, part=part).of(default, full=full, long=long)]
            for part in parts
        ]

    assert all(seeds[: len(default)] == [*default] for seeds in played())
    assert sorted([seed for seeds in played() for seed in seeds[len(default) :]]) == [*full][len(default) :]
    assert played(full=True) == [[*full]] * 4
    assert played(long=True) == [[*long]] * 4
    assert Seeds(full=False, long=False, part=None).of(default, full=full, long=long) == default


def test_the_parts_of_what_only_a_full_run_has_are_all_of_it_and_each_comes_once() -> None:
    beyond = {3: "a", 4: "b", 9: "group", 17: "c", 18: "d", 30: "group", 31: "e"}
    taken = [beyond.keys() - not_in_part(beyond, Part(number, 3)) for number in range(3)]
    assert sorted(place for part in taken for place in part) == sorted(beyond)
    assert [{9, 30} <= part for part in taken].count(True) == 1
    assert not_in_part(beyond, None) == set(beyond)
