"""A backplane belongs to one event loop and one process: elsewhere it says so and does nothing."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from backplane_core import BaseBackplane, ClosedError, InMemoryBackplane, Target, WrongLoopError, connect
from backplane_testservers import OwnBroker

from tests.support.fleets import MemoryFleet
from tests.support.sockets import attach_user
from tests.support.waiting import until

USER = Target.user("u1")

CALLS: dict[str, Callable[[BaseBackplane], Awaitable[Any]]] = {
    "publish": lambda pod: pod.publish(USER, 1),
    "attach": lambda pod: pod.attach("c2", print),
    "associate": lambda pod: pod.associate("c1", USER),
    "dissociate": lambda pod: pod.dissociate("c1", USER),
    "detach": lambda pod: pod.detach("c1"),
    "connection": lambda pod: pod.connection("c3", USER).__aenter__(),
    "flush": lambda pod: pod.flush(timeout_s=1),
    "drain": lambda pod: pod.drain(timeout_s=1),
    "aclose": lambda pod: pod.aclose(),
}


def in_another_loop(call: Callable[[], Awaitable[Any]]) -> BaseException | None:
    """Run a call in another thread with a loop of its own; return what it raised."""
    raised: list[BaseException | None] = []

    async def run() -> None:
        await call()

    def thread() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:  # noqa: BLE001 -- returned
            raised.append(error)
        else:
            raised.append(None)

    runner = threading.Thread(target=thread)
    runner.start()
    runner.join()
    return raised[0]


# A worker of pytest-xdist has a thread of its own, and Python warns of a fork beside one.
alone = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.mark.every_loop
@pytest.mark.parametrize("name", CALLS)
async def test_in_another_loop_or_thread_it_is_a_clear_error_and_nothing_is_done(
    backplane: BaseBackplane, name: str
) -> None:
    got: list[Any] = []
    await attach_user(backplane, "c1", got.append)
    error = in_another_loop(lambda: CALLS[name](backplane))
    assert isinstance(error, WrongLoopError), error
    assert "publish_threadsafe" in str(error)
    assert got == []
    assert backplane.connection_count == 1
    assert backplane.targets_of("c1") == {USER}
    assert backplane.state == "live"
    assert await backplane.publish(USER, 2) == 1


async def test_without_a_loop_publishing_is_the_same_error(backplane: BaseBackplane) -> None:
    await attach_user(backplane, "c1", print)
    raised: list[BaseException] = []

    def thread() -> None:
        try:
            backplane.publish_nowait(USER, 1)
        except WrongLoopError as error:
            raised.append(error)

    runner = threading.Thread(target=thread)
    runner.start()
    runner.join()
    assert len(raised) == 1


async def test_a_wrong_loop_is_told_before_a_wrong_event(backplane: BaseBackplane) -> None:
    error = in_another_loop(lambda: backplane.publish(USER, object()))
    assert isinstance(error, WrongLoopError)


def test_in_memory_one_loop_after_another_may_use_it() -> None:
    pod = InMemoryBackplane()
    for number in range(2):

        async def use(number: int = number) -> None:
            await pod.attach(f"c{number}", print)
            assert await pod.publish(Target.connection(f"c{number}"), 1) == 1

        asyncio.run(use())
    assert pod.connection_count == 2


@alone
@pytest.mark.every_loop
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
async def test_a_forked_child_is_refused_and_sends_no_byte(broker: OwnBroker, channel: str) -> None:
    """What the parent had accepted is sent by the parent alone, and the parent goes on."""
    async with (
        connect(broker.url, channel=channel) as here,
        connect(broker.url, channel=channel) as there,
    ):
        got: list[Any] = []
        await attach_user(there, "far", got.append)
        await here.publish(USER, "before")
        await until(lambda: got == ["before"], "the event before the fork")
        here.publish_nowait(USER, "waiting")  # accepted, and not written when the child is made
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            # No assertion here may reach the parent's test runner: the child says what it saw, and goes at once.
            said = b"nothing"
            try:
                here.publish_nowait(USER, "from the child")
                said = b"it was taken"
            except ClosedError as error:
                said = str(error).encode()
            finally:
                os.write(writer, said)
                os._exit(0)
        os.close(writer)
        answer = os.read(reader, 1_000).decode()
        os.close(reader)
        await asyncio.to_thread(os.waitpid, child, 0)
        assert answer == "this backplane belongs to the parent process: open one after the fork"
        await here.publish(USER, "after")
        await until(lambda: len(got) >= 3, "the events after the fork")
        await here.flush(timeout_s=5)
        assert got == ["before", "waiting", "after"]
        assert there.stats().duplicates == 0
        assert there.stats().gaps == {}
        assert here.stats().links == there.stats().links == 1


@alone
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
async def test_a_childs_close_leaves_the_parents_link_alone() -> None:
    """A prefork server's workers run the clean-up of what was made before the fork."""
    fleet = MemoryFleet()
    async with fleet.stack:
        pod = await fleet.pod()
        child = os.fork()
        if not child:
            code = 1
            try:
                pod.aclose().send(None)
            except StopIteration:
                code = 0 if pod.state == "closed" and fleet.broker.link_count == 1 else 2
            finally:
                os._exit(code)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert pod.state == "live"
