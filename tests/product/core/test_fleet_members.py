"""Which pods a pod knows, and for how long: only the time in which it listened counts."""

from __future__ import annotations

from backplane_core._fleet.members import MAX_MEMBERS, Members

TICK_S = 1.0


def members(ttl_s: float = 45.0) -> Members:
    """A pod that has been live since 0 s."""
    found = Members(ttl_s, 15.0)
    found.live()
    found.tick(0.0, 2 * TICK_S)
    return found


def pass_time(found: Members, since: int, until: int) -> None:
    for now in range(since + 1, until + 1):
        found.tick(float(now), 2 * TICK_S)


def origins(found: Members) -> list[str]:
    return [member.origin for member in found.present()]


def test_a_pod_is_a_member_from_its_first_beat_until_it_was_silent_for_long() -> None:
    found = members()
    found.heard("a", 1)
    pass_time(found, 0, 30)
    found.heard("b", 1)
    pass_time(found, 30, 44)
    assert origins(found) == ["a", "b"]
    pass_time(found, 44, 45)
    assert origins(found) == ["b"]
    found.heard("b", 1)
    pass_time(found, 45, 89)
    assert origins(found) == ["b"]
    pass_time(found, 89, 90)
    assert origins(found) == []


def test_a_pod_whose_own_loop_stood_still_does_not_take_that_for_the_silence_of_others() -> None:
    found = members()
    found.heard("a", 1)
    found.tick(10_000.0, 2 * TICK_S)
    assert origins(found) == ["a"]


def test_the_time_without_a_link_does_not_count() -> None:
    found = members()
    found.heard("a", 1)
    found.lost()
    pass_time(found, 0, 1_000)
    found.live()
    pass_time(found, 1_000, 1_044)
    assert origins(found) == ["a"]
    pass_time(found, 1_044, 1_046)
    assert origins(found) == []


def test_a_pod_that_left_stays_gone_whatever_beats_follow() -> None:
    found = members()
    found.heard("a", 1)
    found.left("a")
    assert origins(found) == []
    found.heard("a", 1)
    assert origins(found) == []


def test_a_pod_without_connections_is_no_member_and_one_that_says_nothing_is() -> None:
    found = members()
    found.heard("publisher", 0)
    found.heard("old", None)
    assert origins(found) == ["old"]


def test_forged_origins_take_the_place_of_the_longest_silent_and_no_more_room() -> None:
    found = members()
    for number in range(MAX_MEMBERS + 10):
        found.heard(str(number), 1)
    assert len(found.present()) == MAX_MEMBERS
    assert origins(found)[0] == "10"


def test_all_pods_are_known_once_each_had_time_to_beat_or_to_answer() -> None:
    found = members()
    assert not found.is_settled
    pass_time(found, 0, 14)
    assert not found.is_settled
    pass_time(found, 14, 15)
    assert found.is_settled
    found.lost()
    found.live()
    assert not found.is_settled
    found.surveyed()
    assert found.is_settled
