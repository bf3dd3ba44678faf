"""Faults of code: the log says where, with a stack if that is switched on, and never what event and error said."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from backplane_core import Gap, SyncPublisher, Target, TransportError
from backplane_core._runtime import faults
from backplane_core._runtime.faults import error_location, log_fault, log_stack
from backplane_core.testing import MemoryTransport
from backplane_core.transport import Frame, Link, Lost, Traits

from tests.support.fleets import MemoryFleet
from tests.support.links import LinkAround
from tests.support.waiting import until

SECRET = "s3cr3t"
USER = Target.user("u1")


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], str]]:
    """What the log says, with stacks switched on; fails the test if the payload is in it."""
    monkeypatch.setenv("BACKPLANE_TRACEBACKS", "1")
    monkeypatch.setattr(faults, "_logged_at", {})
    caplog.set_level(logging.DEBUG)
    yield lambda: caplog.text
    assert SECRET not in caplog.text
    assert all(record.exc_info is None and SECRET not in repr(record.args) for record in caplog.records)


class SpitefulError(Exception):
    """Says what it should not in every way that it has."""

    def __init__(self, text: str) -> None:
        super().__init__(text, {text: text})
        self.text = text
        self.add_note(f"a note: {text}")

    def __repr__(self) -> str:
        return self.text


def fail(value: Any) -> None:
    held = f"held in a local: {value}"
    raise SpitefulError(held)


def caused(value: Any) -> None:
    try:
        fail(value)
    except SpitefulError as error:
        raise LookupError("s3cr3t in the source line") from error


def on_the_way(value: Any) -> None:
    try:
        fail(value)
    except SpitefulError:
        raise LookupError(value)  # noqa: B904 -- its context is what is tested


def hidden(value: Any) -> None:
    try:
        fail(value)
    except SpitefulError:
        raise LookupError(value) from None


def in_groups(value: Any) -> None:
    errors: list[Exception] = []
    for one in (fail, caused):
        try:
            one(value)
        except Exception as error:  # noqa: BLE001 -- each of them
            errors.append(error)
    raise ExceptionGroup(value, [*errors, ExceptionGroup(value, [KeyError(value)])])


def caught(raises: Callable[[Any], None]) -> BaseException:
    try:
        raises(SECRET)
    except Exception as error:  # noqa: BLE001 -- any
        return error
    raise AssertionError


def recursive(value: Any) -> None:
    if value:
        recursive(value)


def test_without_the_switch_the_log_names_type_and_place_alone(caplog: pytest.LogCaptureFixture) -> None:
    error = caught(caused)
    said = log_fault("the link failed", error)
    log_stack("a sink raised", error)
    assert said == f"the link failed: {error_location(error)}"
    assert caplog.messages == [said]
    assert error_location(error).startswith("LookupError at test_faults.py:")


@pytest.mark.parametrize("off", ["", "0", "true", "yes"])
def test_the_switch_is_1_and_nothing_else(
    off: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("BACKPLANE_TRACEBACKS", off)
    log_stack("a sink raised", caught(fail))
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("raises", "lines"),
    [
        (fail, ["SpitefulError", "in caught", "in fail"]),
        (caused, ["LookupError", "in caught", "in caused", "caused by ", "SpitefulError", "in caused", "in fail"]),
        (on_the_way, ["LookupError", "in caught", "in on_the_way", "while handling ", "SpitefulError", "in fail"]),
        (hidden, ["LookupError", "in caught", "in hidden"]),
        (
            in_groups,
            [
                *("ExceptionGroup", "in caught", "in in_groups"),
                *("1 of 3: ", "SpitefulError", "in in_groups", "in fail"),
                *("2 of 3: LookupError", "in caused", "caused by ", "SpitefulError", "in fail"),
                *("3 of 3: ExceptionGroup", "1 of 1: KeyError"),
            ],
        ),
    ],
)
def test_a_stack_shows_frames_and_types_of_all_that_led_to_it(
    traces: Callable[[], str], raises: Callable[[Any], None], lines: list[str]
) -> None:
    log_fault("the link failed", caught(raises))
    rest = traces()
    for line in lines:
        assert line in rest, f"{line} is missing, or not in its place, in:\n{traces()}"
        rest = rest.partition(line)[2]
    assert __file__ in traces()
    if raises is hidden:
        assert "SpitefulError" not in traces()


def test_a_deep_stack_and_a_large_group_are_shortened(traces: Callable[[], str]) -> None:
    log_stack("a sink raised", caught(recursive))
    log_stack("a sink raised", ExceptionGroup(SECRET, [ValueError(number) for number in range(1_000)]))
    assert " frames" in traces()
    assert "and more exceptions" in traces()
    assert len(traces().splitlines()) < 120


def test_errors_that_led_to_each_other_end(traces: Callable[[], str]) -> None:
    one, other = ValueError(SECRET), KeyError(SECRET)
    one.__cause__, other.__cause__ = other, one
    log_stack("a sink raised", one)
    assert "caused by KeyError" in traces()
    assert "caused by ValueError, as above" in traces()


def test_one_stack_is_logged_once_a_minute_and_only_so_many_are_known(
    traces: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("backplane_core._runtime.faults.monotonic", lambda: now[0])
    errors = [caught(fail) for _ in range(3)]
    for error in errors:
        log_stack("a sink raised", error)
    assert traces().count("in fail") == 1
    now[0] = 60.0
    log_stack("a sink raised", errors[0])
    assert traces().count("in fail") == 2
    for number in range(2 * faults.MAX_STACKS):
        log_stack("a sink raised", type(f"Error{number}", (Exception,), {})())
    assert len(faults._logged_at) <= faults.MAX_STACKS


# Where faults of our own code, of hosts' and of transports' are contained


async def test_a_sink_that_raises_has_a_stack(traces: Callable[[], str]) -> None:
    fleet = MemoryFleet()
    async with fleet.stack:
        pod = await fleet.pod()
        await pod.attach("c1", fail)
        await pod.associate("c1", USER)
        await pod.publish(USER, SECRET)
        await pod.publish(USER, SECRET)
        assert pod.stats().sink_errors == 2
    assert "a sink raised\n" in traces()
    assert traces().count("in fail") == 1


@pytest.mark.parametrize("option", ["observer", "on_state", "on_gap"])
async def test_a_callback_that_raises_has_a_stack(traces: Callable[[], str], option: str) -> None:
    def raises(_: object) -> None:
        in_groups(SECRET)

    fleet = MemoryFleet()
    async with fleet.stack:
        options: dict[str, Any] = {option: raises}
        pod = await fleet.pod(**options)
        fleet.broker.drop_links()
        await until(lambda: pod.stats().observer_errors > 0, "the callback to fail")
    assert "a callback raised: " in traces()
    assert "in in_groups" in traces()


async def test_a_connections_on_gap_that_raises_has_a_stack(traces: Callable[[], str]) -> None:
    def raises(gap: Gap) -> None:
        fail(gap)

    fleet = MemoryFleet()
    async with fleet.stack:
        pod = await fleet.pod()
        await pod.attach("c1", lambda _: None, on_gap=raises)
        fleet.broker.drop_links()
        await until(lambda: pod.stats().observer_errors > 0, "the callback to fail")
    assert "in fail" in traces()


class Broken(MemoryTransport):
    """A transport with a fault in `open`, once."""

    failed = False

    async def open(self) -> Link:
        if not self.failed:
            self.failed = True
            caused(SECRET)
        return await super().open()


async def test_a_transport_with_a_fault_has_a_stack(traces: Callable[[], str]) -> None:
    fleet = MemoryFleet()
    async with fleet.stack:
        await fleet.pod(Broken(fleet.broker))
    assert "the transport failed: LookupError at test_faults.py" in traces()
    assert "in Broken.open" in traces()
    assert "in fail" in traces()


class BrokenLink(LinkAround):
    """A link with a fault in `receive`."""

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        await asyncio.sleep(0)
        fail(SECRET)
        yield []


class Breaking(MemoryTransport):
    """A transport whose first link has a fault."""

    opened = 0

    async def open(self) -> Any:
        self.opened += 1
        link = await super().open()
        return BrokenLink(link) if self.opened == 1 else link


async def test_a_link_with_a_fault_has_a_stack(traces: Callable[[], str]) -> None:
    fleet = MemoryFleet()
    async with fleet.stack:
        pod = await fleet.pod(Breaking(fleet.broker))
        await until(lambda: "in BrokenLink.receive" in traces(), "the fault to be logged")
        await until(lambda: pod.ready().live, "the next link")
    assert "the link failed: SpitefulError at test_faults.py" in traces()


class Fickle(MemoryTransport):
    """A transport that fails to say what it is, once it is asked after its first link."""

    failed = False

    @property
    def traits(self) -> Traits:
        if inspect.stack()[1].function == "_serve" and not self.failed:
            self.failed = True
            caused(SECRET)
        return super().traits


async def test_a_fault_around_a_link_has_a_stack_and_does_not_end_the_life_of_links(traces: Callable[[], str]) -> None:
    fleet = MemoryFleet()
    async with fleet.stack:
        pod = await fleet.pod(Fickle(fleet.broker))
        assert pod.ready().live
    assert "using the link failed: LookupError at test_faults.py" in traces()
    assert "in fail" in traces()


async def test_a_sync_publisher_logs_stacks_from_its_own_thread(
    traces: Callable[[], str], redis_url: str, channel: str
) -> None:
    def work() -> None:
        with SyncPublisher(redis_url, channel=channel, observer=caused) as publisher:
            publisher.publish(USER, SECRET)

    await asyncio.to_thread(work)
    assert "a callback raised: LookupError at test_faults.py" in traces()
    assert "in fail" in traces()


async def test_what_is_expected_has_no_stack(traces: Callable[[], str]) -> None:
    fleet = MemoryFleet()
    async with fleet.stack:
        pod = await fleet.pod()
        fleet.broker.cut()
        await until(lambda: not pod.ready().live, "the outage")
        fleet.broker.restore()
        await until(lambda: pod.ready().live, "the next link")
    assert " in " not in "".join(line for line in traces().splitlines() if line.startswith("  "))
    assert TransportError.__name__ not in traces()
