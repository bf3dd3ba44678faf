"""A measurement's options are its fields: on the command line, in a short run, and in one that was asked for."""

from __future__ import annotations

import argparse

import pytest

from bench.catalogue import MEASURES
from tests.project.bench.sections import Speed


def parsed(*words: str, quick: bool = False) -> Speed:
    parser = argparse.ArgumentParser()
    Speed.add_options(parser)
    return Speed.of(parser.parse_args(words), quick=quick)


def test_what_is_not_given_is_as_usual() -> None:
    assert parsed() == Speed(rounds=3, seconds=0.5, sizes=(1, 2), bus="both")


def test_what_is_given_counts_in_a_short_run_too() -> None:
    words = ("--rounds", "7", "--bus", "redis")
    assert parsed(*words, quick=True) == Speed(rounds=7, seconds=0.5, sizes=(8,), bus="redis")
    assert parsed("--sizes", "3", "4", "--seconds", "2.5") == Speed(sizes=(3, 4), seconds=2.5)


@pytest.mark.parametrize(
    "words",
    [("--rounds", "0"), ("--seconds", "-1"), ("--sizes", "1", "x"), ("--bus", "kafka")],
    ids=lambda words: words[0],
)
def test_what_makes_no_sense_is_refused(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(*words)
    assert f"argument {words[0]}: invalid" in capsys.readouterr().err.replace("must be more than 0", "invalid")


@pytest.mark.parametrize("name", MEASURES)
def test_each_measurement_can_be_short_and_says_what_it_is(name: str) -> None:
    measure = MEASURES[name]
    assert measure.sized(quick=True) != measure.sized(quick=False)
    assert measure.about().endswith(".")
    measure.add_options(argparse.ArgumentParser())
