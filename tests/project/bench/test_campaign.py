"""Measurements one after the other: what is done is kept."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from bench.archive import Measured
from bench.campaign import FAILED, INTERRUPTED, Measure, run
from bench.display import Display
from bench.findings import Findings, Progress
from tests.project.bench.findings import FINDINGS, measured
from tests.project.bench.running import bench


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def raising(error: BaseException) -> Measure:
    def measure(progress: Progress, *, quick: bool) -> Findings:
        raise error

    return measure


def fine(progress: Progress, *, quick: bool) -> Findings:
    progress("round 1 of 1")
    return FINDINGS


def campaign(
    measures: dict[str, Measure], done: dict[str, Measured], keep: Callable[[], None], out: io.StringIO | None = None
) -> int:
    display = Display([60.0] * len(measures), out or io.StringIO())
    return run(measures, done, quick=True, machine={"Python": "3"}, display=display, keep=keep)


def test_one_that_fails_does_not_cost_the_others() -> None:
    done: dict[str, Measured] = {}
    kept: list[list[str]] = []
    out = io.StringIO()
    measures = {"first": fine, "bad": raising(RuntimeError("no room")), "last": fine}
    assert campaign(measures, done, lambda: kept.append(list(done)), out) == FAILED
    assert kept == [["first"], ["first", "last"]]
    assert "[2/3] bad  failed: RuntimeError: no room" in out.getvalue()
    assert "[3/3] last  1 of 2 goals reached" in out.getvalue()


def test_an_interrupted_run_keeps_what_is_done_and_what_was() -> None:
    older = measured()
    done = {"bad": older, "older": older}
    kept: list[list[str]] = []
    measures = {"first": fine, "bad": raising(KeyboardInterrupt()), "last": fine}
    assert campaign(measures, done, lambda: kept.append(list(done))) == INTERRUPTED
    assert kept == [["bad", "older", "first"]]
    assert done["bad"] is older
    assert done["first"].quick
    assert done["first"].machine == {"Python": "3"}


def test_a_terminal_gets_colours_and_one_line_for_each_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    assert campaign({"first": fine, "last": fine}, {}, lambda: None, out) == 0
    assert out.getvalue().count("\n") == 2
    assert "\x1b[1m[1/2] first\x1b[0m" in out.getvalue()
    assert "round 1 of 1" in out.getvalue()
    assert "about 2:00 left" in out.getvalue()


def test_no_color_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    campaign({"first": fine}, {}, lambda: None, out)
    assert "\x1b[K" in out.getvalue()
    assert "m[1/1]" not in out.getvalue()


async def test_a_measurement_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    code, out, err = await bench("all.py", "--only", "throughput,speed")
    assert (code, out) == (2, "")
    assert "there is no speed; there are throughput" in err
