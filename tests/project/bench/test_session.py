"""Measurements one after the other: what is done is kept."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen

from bench.measure import Measure, Progress
from bench.page.archive import Measured
from bench.page.display import Display
from bench.session import FAILED, INTERRUPTED, run
from tests.project.bench.running import bench
from tests.project.bench.sections import Rates, Speed, measured


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class First(Speed):
    name = "first"


class Last(Speed):
    name = "last"


@frozen(kw_only=True)
class Bad(Speed):
    error: BaseException
    name = "bad"

    def measure(self, progress: Progress) -> Rates:
        raise self.error


def session(
    measures: Sequence[Measure[Any]],
    done: dict[str, Measured],
    keep: Callable[[], None],
    out: io.StringIO | None = None,
) -> int:
    display = Display(len(measures), out or io.StringIO())
    return run(measures, done, quick=True, commit="commit new", machine={"Python": "3"}, display=display, keep=keep)


def test_one_that_fails_does_not_cost_the_others() -> None:
    done: dict[str, Measured] = {}
    kept: list[list[str]] = []
    out = io.StringIO()
    measures = [First(), Bad(error=RuntimeError("no room")), Last()]
    assert session(measures, done, lambda: kept.append(list(done)), out) == FAILED
    assert kept == [["first"], ["first", "last"]]
    assert "[2/3] bad  failed: RuntimeError: no room" in out.getvalue()
    assert "[3/3] last  1 of 2 goals reached" in out.getvalue()


def test_an_interrupted_run_keeps_what_is_done_and_what_was() -> None:
    older = measured(commit="commit old")
    done = {"bad": older, "older": older}
    kept: list[list[str]] = []
    measures = [First(), Bad(error=KeyboardInterrupt()), Last()]
    assert session(measures, done, lambda: kept.append(list(done))) == INTERRUPTED
    assert kept == [["bad", "older", "first"]]
    assert done["bad"] is older
    assert (done["first"].quick, done["first"].commit, done["first"].machine) == (True, "commit new", {"Python": "3"})


def test_a_terminal_gets_one_line_that_stays_for_each_measurement() -> None:
    out = Terminal()
    assert session([First(), Last()], {}, lambda: None, out) == 0
    assert out.getvalue().count("\n") == 2
    assert "[1/2] first  1/1  round 1 of 1" in out.getvalue()


def test_a_log_gets_plain_lines() -> None:
    out = io.StringIO()
    session([First()], {}, lambda: None, out)
    assert "\x1b" not in out.getvalue()
    assert [line[:11] for line in out.getvalue().splitlines()] == ["[1/1] first", "[1/1] first"]


async def test_a_measurement_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    code, out, err = await bench("--only", "throughput,speed")
    assert (code, out) == (2, "")
    assert "there is no speed; there are throughput" in err
