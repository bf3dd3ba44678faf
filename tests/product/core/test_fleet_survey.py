"""What comes of one question: each member ends with its answer, or with the reason why there is none."""

from __future__ import annotations

from backplane_core._fleet.members import MAX_MEMBERS, Member
from backplane_core._fleet.survey import LEFT, MAX_ANSWER_BYTES, REASONS, TOO_MUCH, Survey
from backplane_core._protocol.fleet_frame import Answer
from backplane_core._protocol.reasons import OTHER_REASON, TOO_OLD


def survey(*levels: int | None, waits: bool = False) -> Survey:
    """A survey of members a, b, c, ..."""
    found = [Member(name, level, 0.0) for name, level in zip("abcdef", levels, strict=False)]
    return Survey.of(found, waits_for_unknown=waits)


def answer(**members: object) -> Answer:
    return Answer("me", 1, **members)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_survey_is_over_when_the_last_member_has_answered() -> None:
    found = survey(1, 1)
    found.answered("a", answer(count=1), 10)
    assert not found.is_over
    found.answered("b", answer(count=2), 10)
    assert found.is_over
    assert ({origin: one.count for origin, one in found.answers.items()}, found.missing) == ({"a": 1, "b": 2}, {})


def test_a_pod_that_can_not_answer_is_named_at_once_and_not_waited_for() -> None:
    found = survey(None, 1)
    assert found.missing == {"a": TOO_OLD}
    found.answered("b", answer(), 10)
    assert found.is_over


def test_a_pod_that_leaves_is_not_waited_for_and_one_that_has_answered_keeps_its_answer() -> None:
    found = survey(1, 1)
    found.answered("a", answer(count=1), 10)
    found.left("a")
    found.left("b")
    found.left("stranger")
    assert (found.is_over, [*found.answers], found.missing) == (True, ["a"], {"b": LEFT})


def test_a_refusal_says_why_and_one_that_is_not_known_is_no_answer_either() -> None:
    found = survey(1, 1)
    found.answered("a", answer(no="refused"), 10)
    found.answered("b", answer(no="of a later version"), 10)
    assert (found.is_over, found.missing) == (True, {"a": REASONS["refused"], "b": OTHER_REASON})


def test_those_that_are_still_awaited_at_the_end_are_missing() -> None:
    found = survey(1, 1, waits=True)
    found.answered("a", answer(), 10)
    assert not found.is_over
    found.end("no answer within 1 s")
    assert (found.is_over, [*found.answers], found.missing) == (True, ["a"], {"b": "no answer within 1 s"})


def test_with_unknown_pods_about_a_survey_takes_answers_of_any_and_ends_with_its_time() -> None:
    found = survey(waits=True)
    assert not found.is_over
    found.answered("stranger", answer(count=3), 10)
    assert (found.is_over, found.answers["stranger"].count) == (False, 3)


def test_only_the_first_answer_of_a_pod_counts() -> None:
    found = survey(1)
    found.answered("a", answer(count=1), 10)
    found.answered("a", answer(count=9), 10)
    assert found.answers["a"].count == 1


def test_forged_answers_are_bounded_in_number_and_in_bytes() -> None:
    found = survey(1)
    for number in range(MAX_MEMBERS + 10):
        found.answered(f"forged-{number}", answer(), 10)
    assert len(found.answers) == MAX_MEMBERS
    found = survey(1)
    found.answered("large", answer(), MAX_ANSWER_BYTES)
    found.answered("a", answer(), 1)
    assert ([*found.answers], found.missing) == (["large"], {"a": TOO_MUCH})
