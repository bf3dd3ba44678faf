"""What readers of connections wait on: woken once, in order, from few callbacks; cancelled as a future is."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from asyncio import tasks
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from inspect import iscoroutine
from typing import Any

import pytest
from backplane_core import InMemoryBackplane, Target
from backplane_core._runtime import own_waiters
from backplane_core._runtime.own_waiters import AT_ONCE
from backplane_core._runtime.waking import Waiter, WakeQueue

from tests.support.waiting import DEADLINE_S

MAKERS: dict[str, Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]] = {
    "of C": asyncio.ensure_future,
    "of Python": lambda coroutine: tasks._PyTask(coroutine, loop=asyncio.get_running_loop()),  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType, reportUnknownLambdaType, reportUnknownMemberType] -- asyncio's own, for where there is no C
}

pytestmark = pytest.mark.every_loop


@pytest.fixture(params=MAKERS)
def make_task(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]:
    return MAKERS[request.param]


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_task_goes_on_once_per_wake(make_task: Any) -> None:
    waiter, times = Waiter(WakeQueue()), 0

    async def wait() -> None:
        nonlocal times
        while True:
            await waiter
            times += 1

    task = make_task(wait())
    await turns()
    for expected in (1, 2, 3):
        waiter.wake()
        waiter.wake()  # it is woken already
        await turns()
        assert times == expected
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    waiter.wake()  # nobody waits


async def test_many_are_woken_in_order(make_task: Any) -> None:
    waker, woken = WakeQueue(), list[int]()
    waiters = [Waiter(waker) for _ in range(300)]

    async def wait(number: int) -> None:
        await waiters[number]
        woken.append(number)

    waiting = [make_task(wait(number)) for number in range(len(waiters))]
    await turns()
    order = [*range(1, len(waiters)), 0]
    for number in order:
        waiters[number].wake()
    await asyncio.wait(waiting)
    assert woken == order


async def test_the_hand_made_awaitable_wakes_many_by_one_callback_each_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    waker, woken = own_waiters.WakeQueue(), list[int]()
    waiters = [own_waiters.Waiter(waker) for _ in range(3 * AT_ONCE)]

    async def wait(number: int) -> None:
        await waiters[number]
        woken.append(number)

    waiting = [asyncio.create_task(wait(number)) for number in range(len(waiters))]
    await turns()
    runs = 0
    run = own_waiters.WakeQueue._run

    def counted(self: own_waiters.WakeQueue, loop: asyncio.AbstractEventLoop) -> None:
        nonlocal runs
        runs += 1
        run(self, loop)

    monkeypatch.setattr(own_waiters.WakeQueue, "_run", counted)
    order = [*range(1, len(waiters)), 0]
    for number in order:
        waiters[number].wake()
    await asyncio.wait(waiting)
    assert woken == order
    assert runs == 3


async def test_a_cancelled_task_raises_and_the_waiter_serves_another(make_task: Any) -> None:
    waiter = Waiter(WakeQueue())

    async def wait() -> str:
        await waiter
        return "woken"

    first = make_task(wait())
    await turns()
    first.cancel("enough")
    with pytest.raises(asyncio.CancelledError):
        await first
    second = make_task(wait())
    await turns()
    assert not second.done()
    waiter.wake()
    assert await second == "woken"


async def test_a_task_that_is_cancelled_once_it_was_woken_raises_all_the_same(make_task: Any) -> None:
    waiter = Waiter(WakeQueue())

    async def wait() -> None:
        await waiter

    task = make_task(wait())
    await turns()
    waiter.wake()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_wait_that_times_out_loses_no_event_between_queue_and_reader() -> None:
    async with InMemoryBackplane() as backplane, backplane.connection("c1", Target.user("u1")) as connection:
        got: list[Any] = []
        for number in range(200):
            reading = asyncio.ensure_future(anext(connection))
            await asyncio.sleep(0)
            await backplane.publish(Target.user("u1"), number)
            if number % 2:
                reading.cancel()
            try:
                got.append((await reading).value)
            except asyncio.CancelledError:
                got.append((await anext(connection)).value)
        assert got == list(range(200))


@pytest.mark.parametrize("how", ["cancelled", "woken"])
async def test_a_reader_that_was_called_and_has_not_gone_on_yet_is_still_the_one_reader(how: str) -> None:
    async with InMemoryBackplane() as backplane, backplane.connection("c1", Target.user("u1")) as connection:
        first = asyncio.ensure_future(anext(connection))
        await asyncio.sleep(0)
        if how == "cancelled":
            first.cancel()
        else:
            await backplane.publish(Target.user("u1"), "event")
            assert (await anext(connection)).value == "event", "whoever asks first gets it"
        with pytest.raises(RuntimeError, match="one reader at a time"):
            await anext(connection)
        await backplane.publish(Target.user("u1"), "next")
        if how == "cancelled":
            with pytest.raises(asyncio.CancelledError):
                await first
            assert (await anext(connection)).value == "next"
        else:
            assert (await first).value == "next"


@pytest.mark.parametrize("how", ["cancelled", "woken"])
async def test_a_reader_goes_on_in_its_own_context(make_task: Any, how: str) -> None:
    whose = ContextVar[str]("whose")
    waker, seen = WakeQueue(), list[tuple[int, str]]()
    waiters = [Waiter(waker) for _ in range(3)]

    async def wait(number: int) -> None:
        whose.set(f"reader {number}")
        try:
            await waiters[number]
        finally:
            seen.append((number, whose.get()))
            whose.set("nobody")

    whose.set("waker")
    tasks = [make_task(wait(number)) for number in range(len(waiters))]
    await turns()
    for task, waiter in zip(tasks, waiters, strict=True):
        if how == "woken":
            waiter.wake()
        else:
            task.cancel()
    await asyncio.wait(tasks)
    assert seen == [(number, f"reader {number}") for number in range(3)]
    assert whose.get() == "waker"


async def test_what_anext_returns_is_a_coroutine_which_a_task_can_run() -> None:
    async with InMemoryBackplane() as backplane, backplane.connection("c1", Target.user("u1")) as connection:
        reading = anext(connection)
        assert iscoroutine(reading)
        task = asyncio.create_task(reading)
        await backplane.publish(Target.user("u1"), "event")
        assert (await task).value == "event"


async def test_a_second_reader_is_refused_within_the_turn_that_woke_the_first() -> None:
    waker = WakeQueue()
    read, other = Waiter(waker), Waiter(waker)
    refused: list[str] = []

    async def wait(waiter: Waiter) -> None:
        await waiter

    async def intrude() -> None:
        await other
        with pytest.raises(RuntimeError, match="one reader at a time") as refusal:
            await read
        refused.append(str(refusal.value))

    intruder = asyncio.create_task(intrude())
    reader = asyncio.create_task(wait(read))
    await turns()
    other.wake()
    await asyncio.wait_for(intruder, DEADLINE_S)
    assert refused
    assert not reader.done()
    read.wake()
    await reader


async def test_a_reader_that_ends_the_program_leaves_no_other_asleep() -> None:
    waker, woken = own_waiters.WakeQueue(), list[str]()
    loop, waiters = asyncio.get_running_loop(), [own_waiters.Waiter(waker) for _ in range(3)]
    raised: list[BaseException] = []

    class Callback:
        """Stands in for a task's step, which lets SystemExit through to the loop."""

        def __init__(self, name: str, error: BaseException | None = None) -> None:
            self.name, self.error = name, error

        def __call__(self, _: object) -> None:
            woken.append(self.name)
            if self.error is not None:
                raise self.error

    callbacks = [Callback("a"), Callback("b", LookupError()), Callback("c")]
    loop.set_exception_handler(lambda _, context: raised.append(context["exception"]))
    for waiter, callback in zip(waiters, callbacks, strict=True):
        awaiting = waiter.__await__()
        assert next(awaiting) is waiter
        waiter.add_done_callback(callback, context=copy_context())
        waiter.wake()
    await turns()
    loop.set_exception_handler(None)
    assert woken == ["a", "b", "c"]
    assert [type(error) for error in raised] == [LookupError]


def test_a_loop_that_was_closed_before_it_woke_anyone_is_forgotten() -> None:
    waker = WakeQueue()
    waiter = Waiter(waker)

    async def wake_at_the_end() -> None:
        asyncio.get_running_loop().call_soon(waiter.wake)
        await waiter

    first = asyncio.new_event_loop()
    task = first.create_task(wake_at_the_end())
    first.call_soon(waiter.wake)
    first.call_soon(first.stop)
    first.run_forever()
    assert not task.done()
    task.cancel()
    first.run_until_complete(asyncio.wait({task}))
    first.close()
    other = Waiter(waker)

    async def wait() -> None:
        asyncio.get_running_loop().call_soon(other.wake)
        await other

    with asyncio.Runner() as runner:
        runner.run(wait())


@pytest.mark.parametrize("how", ["cancelled", "waiting", "woken"])
def test_a_reader_that_a_closed_loop_left_behind_makes_room_for_one_in_the_next(how: str) -> None:
    waiter = Waiter(WakeQueue())

    async def wait() -> str:
        await waiter
        return "woken"

    async def wait_and_wake() -> str:
        asyncio.get_running_loop().call_soon(waiter.wake)
        return await wait()

    first = asyncio.new_event_loop()
    task = first.create_task(wait())
    first.call_soon(first.stop)
    first.run_forever()
    if how == "cancelled":
        task.cancel()
    elif how == "woken":
        waiter.wake()
    first.close()
    for _ in range(2):
        with asyncio.Runner() as runner:
            assert runner.run(wait_and_wake()) == "woken"
    # Left as its loop was closed: asyncio would say so when it is collected.
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
