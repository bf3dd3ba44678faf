"""What stands where the sockets stand notices what was lost, what came twice and what came out of order."""

from __future__ import annotations

import json

import pytest

from bench.events import nested, user_id
from bench.subjects.sockets import CountedSockets
from bench.subjects.turn import Turn


def turn(events: int, *, flat: bool = False) -> Turn:
    return Turn(subject="", url="", channel="", events=events, warmup=1, flat=flat)


class Line:
    """What comes from the publisher to the sockets."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.sockets = CountedSockets(turn.users)
        self.sockets.expect(turn.numbers)

    def take(self, *places: int) -> None:
        for place in places:
            number = self.turn.numbers[place]
            user = self.turn.users[0] if self.turn.flat else user_id(number)
            self.sockets.of(user).take(self.turn.json(number))

    @property
    def counts(self) -> tuple[int, int, int]:
        return self.sockets.left, self.sockets.late, self.sockets.copies


async def test_a_lost_event_a_copy_and_a_swap_are_noticed() -> None:
    line = Line(turn(6, flat=True))
    line.take(0, 2, 1, 3, 3, 5)
    assert not line.sockets.complete.is_set()
    assert line.counts == (1, 1, 1)


async def test_it_is_over_when_the_last_comes_even_if_others_overtook_it() -> None:
    line = Line(turn(4, flat=True))
    line.take(0, 3, 2)
    assert not line.sockets.complete.is_set()
    line.take(1)
    assert line.sockets.complete.is_set()
    assert line.counts == (0, 2, 0)


async def test_order_counts_for_each_user_and_not_between_them() -> None:
    line = Line(turn(2_000))
    line.take(*range(1, 1_000), *range(1_001, 2_000), 0, 1_000)
    assert line.sockets.complete.is_set()
    assert line.counts == (0, 0, 0)
    line = Line(turn(2_000))
    line.take(*range(1, 2_000), 0)
    assert line.sockets.complete.is_set()
    assert line.counts == (0, 1, 0)


async def test_an_event_at_the_wrong_socket_does_not_count() -> None:
    line = Line(turn(2_000))
    with pytest.raises(AssertionError, match="another user's socket"):
        line.sockets.of("u1").take(line.turn.json(line.turn.numbers[0]))
    assert line.counts == (2_000, 0, 0)


async def test_a_lost_tail_is_lost_and_the_clock_stopped_before_it() -> None:
    line = Line(turn(200, flat=True))
    begun = line.sockets.ended_at
    line.take(*range(150))
    ended = line.sockets.ended_at
    assert ended > begun
    assert line.counts == (50, 0, 0)


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")], ids=["close", "spaced"])
@pytest.mark.parametrize("of", [str, bytes])
async def test_an_event_is_known_in_any_json_as_bytes_and_as_text(of: type, separators: tuple[str, str]) -> None:
    two = turn(2_000)
    sockets = CountedSockets(two.users)
    sockets.expect(two.numbers)
    for number in two.numbers:
        user = user_id(number)
        text = json.dumps(nested(number, user), separators=separators)
        sockets.of(user).take(text if of is str else text.encode())
    assert (sockets.left, sockets.late, sockets.copies) == (0, 0, 0)


def test_each_users_first_number_is_found_wherever_the_numbers_start() -> None:
    sockets = CountedSockets([user_id(number) for number in range(1_000)])
    numbers = range(50_000_123, 50_001_123)
    sockets.expect(numbers)
    for number in numbers:
        user = user_id(number)
        sockets.of(user).take(json.dumps(nested(number, user)))
    assert (sockets.left, sockets.late, sockets.copies) == (0, 0, 0)
