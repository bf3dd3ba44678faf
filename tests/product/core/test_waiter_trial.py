"""The hand-made awaitable is tried at import, and plain futures take its place where it fails: all promises hold."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextvars import Context
from pathlib import Path
from typing import Any

import pytest
from backplane_core._runtime import future_waiters, own_waiters, waiter_trial, waking
from backplane_core._runtime.own_waiters import Confirmation, Waiter, WakeQueue
from backplane_core._runtime.waiter_trial import TrialError, try_own_waiters

pytestmark = pytest.mark.thorough  # each starts an interpreter of its own

HERE = Path(__file__).parent
FORCED = os.environ.get("BACKPLANE_PLAIN_FUTURES") == "1"


def run(code: str, *options: str, **environment: str) -> str:
    """What a new process prints; it must end well, and say nothing on stderr."""
    inherited = {key: value for key, value in os.environ.items() if key != "BACKPLANE_PLAIN_FUTURES"}
    done = subprocess.run(
        [sys.executable, *options, "-c", code],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# The choice


@pytest.mark.skipif(FORCED, reason="plain futures are forced")
def test_the_tasks_of_this_python_take_the_hand_made_awaitable() -> None:
    try_own_waiters()
    assert waking.OWN_WAITERS is True
    assert waking.Waiter is own_waiters.Waiter


CHOICE = "from backplane_core._runtime.waking import OWN_WAITERS, Waiter; print(OWN_WAITERS, Waiter.__module__)"
OWN = "True backplane_core._runtime.own_waiters\n"
FUTURES = "False backplane_core._runtime.future_waiters\n"


@pytest.mark.parametrize(("value", "choice"), [("", OWN), ("0", OWN), ("true", OWN), ("1", FUTURES)])
def test_the_environment_chooses_futures_by_1_alone(value: str, choice: str) -> None:
    assert run(CHOICE, BACKPLANE_PLAIN_FUTURES=value) == choice


def test_both_have_one_interface() -> None:
    for name in ("WakeQueue", "Waiter", "Confirmation"):
        own, plain = getattr(own_waiters, name), getattr(future_waiters, name)
        assert list(inspect.signature(own).parameters) == list(inspect.signature(plain).parameters)
        for member in [member for member in dir(plain) if not member.startswith("_")]:
            one, other = getattr(own, member), getattr(plain, member)
            if inspect.isfunction(one):
                assert str(inspect.signature(one)) == str(inspect.signature(other)), member
    # What the rest of core uses; type checkers see the first of the two alone.
    assert {"waiting", "wake", "go_on"} <= set(dir(future_waiters.Waiter))
    assert {"value", "set"} <= set(dir(future_waiters.Confirmation))


# Where the import happens

LEAVES_NOTHING = """
import asyncio, gc, os, sys, threading, warnings
{before}
def fds(): return sorted(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else []
def look():
    import backplane_core._runtime.loop_binding  # what it needs is imported before
    import backplane_core._runtime.faults, selectors, socket
    return fds(), threading.active_count()
def take():
    before = look()
    from backplane_core._runtime import waking
    gc.collect()
    assert look() == before, (look(), before)
    assert sys.unraisablehook is sys.__unraisablehook__
    assert waking.OWN_WAITERS
    print("taken")
{after}
"""

PLACES: dict[str, tuple[str, str]] = {
    "in no loop": ("", "take()"),
    "in a thread": ("", "thread = threading.Thread(target=take); thread.start(); thread.join()"),
    "in a running loop": ("", "async def main(): take()\nasyncio.run(main())"),
    "in a callback": (
        "",
        "async def main():\n asyncio.get_running_loop().call_soon(take)\n await asyncio.sleep(0)\nasyncio.run(main())",
    ),
    "in a task beside another": (
        "",
        "async def other(): take()\nasync def main(): await asyncio.gather(other(), other())\nasyncio.run(main())",
    ),
    "in uvloop": ("import uvloop", "async def main(): take()\nuvloop.run(main())"),
    "in a thread with a loop of its own": (
        "loop = asyncio.new_event_loop(); asyncio.set_event_loop(loop)",
        "take()\nassert asyncio.get_event_loop() is loop\nloop.close()",
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_the_trial_leaves_nothing_behind_wherever_the_import_happens(place: str) -> None:
    before, after = PLACES[place]
    code = LEAVES_NOTHING.format(before=before, after=after)
    assert set(run(code, "-W", "error").split()) == {"taken"}


def test_the_trial_leaves_no_loop_behind_and_warns_of_nothing() -> None:
    code = "import asyncio; from backplane_core._runtime.waking import OWN_WAITERS as own"
    assert run(f"{code}; print(own, asyncio._get_running_loop())", "-W", "error", "-X", "dev") == "True None\n"


async def test_the_trial_runs_beside_a_running_task_and_disturbs_none() -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    threads = threading.active_count()
    for _ in range(20):
        try_own_waiters()
    assert asyncio.get_running_loop() is loop
    assert asyncio.current_task() is task
    assert threading.active_count() == threads


# Pythons whose internals differ, made of this one


def never(*_: object, **__: object) -> None:
    """Does nothing."""


def broken(*_: object, **__: object) -> Any:
    raise OSError(24, "Too many open files")


add_callback, cancel, run_queue = Waiter.add_done_callback, Waiter.cancel, WakeQueue._run


def without_context(self: Waiter, callback: Callable[[Any], object]) -> None:
    add_callback(self, callback, context=Context())


def in_an_empty_context(self: Waiter, callback: Callable[[Any], object], *, context: Context) -> None:
    del context
    add_callback(self, callback, context=Context())


def backwards(self: WakeQueue, loop: asyncio.AbstractEventLoop) -> None:
    self.called.reverse()
    run_queue(self, loop)


def mute(self: Waiter, msg: object = None) -> bool:
    del msg
    return cancel(self)


def deaf(self: Waiter, msg: object = None) -> bool:
    del self, msg
    return True


DIFFERENCES: dict[str, tuple[Any, str, Any]] = {
    "callbacks come without a context": (Waiter, "add_done_callback", without_context),
    "callbacks run in another context": (Waiter, "add_done_callback", in_an_empty_context),
    "callbacks are lost": (Waiter, "add_done_callback", never),
    "a wake does nothing": (Waiter, "wake", never),
    "a wake raises": (Waiter, "wake", broken),
    "the queue runs backwards": (WakeQueue, "_run", backwards),
    "the queue does not run": (WakeQueue, "_run", never),
    "a cancellation says nothing": (Waiter, "cancel", mute),
    "a cancellation does nothing": (Waiter, "cancel", deaf),
    "a result raises": (Waiter, "result", broken),
    "a confirmation comes a turn later": (Confirmation, "go_on", Waiter.wake),
    "a confirmation does not come": (Confirmation, "go_on", never),
    "what a task is told has no result": (own_waiters, "_GO_ON", None),
    "there is no such loop": (asyncio, "SelectorEventLoop", broken),
    "there is no such loop at all": (asyncio, "SelectorEventLoop", None),
    "tasks can't be made": (asyncio, "Task", broken),
}


@pytest.mark.parametrize("difference", DIFFERENCES)
@pytest.mark.parametrize("place", ["in no loop", "in a loop"])
def test_a_python_that_differs_fails_the_trial_and_nothing_is_left(
    difference: str, place: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    thing, name, other = DIFFERENCES[difference]
    caplog.set_level(logging.INFO)
    threads = threading.active_count()

    async def within() -> None:
        choose()

    def choose() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(thing, name, other)
            patch.delenv("BACKPLANE_PLAIN_FUTURES", raising=False)
            with pytest.raises(TrialError):
                try_own_waiters()
            assert waking._choose() is False

    if place == "in a loop":
        asyncio.run(within())
    else:
        choose()
    gc.collect()
    assert threading.active_count() == threads
    # A line for those who ask for it; tasks that were left behind are no news to anybody.
    assert {record.name for record in caplog.records} == {"backplane"}
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "plain futures" in caplog.text


def test_a_process_without_threads_takes_futures_when_it_is_imported_in_a_running_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("BACKPLANE_PLAIN_FUTURES", raising=False)

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)

    async def within() -> bool:
        return waking._choose()

    with asyncio.Runner() as runner:
        assert runner.run(within()) is False


def test_an_interrupt_of_the_import_is_no_failure_of_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.delenv("BACKPLANE_PLAIN_FUTURES", raising=False)
    monkeypatch.setattr(waiter_trial, "_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        waking._choose()


# Its tasks take futures of asyncio's own and nothing else.
STRICT = """
import types

@types.coroutine
def strict(coroutine):
    answer = None
    while True:
        try:
            awaited = coroutine.send(answer)
        except StopIteration as end:
            return end.value
        if awaited is not None and not isinstance(awaited, asyncio.Future):
            coroutine.throw(TypeError(f"a task got {type(awaited)}"))
        answer = yield awaited

async def taken(coroutine):
    return await strict(coroutine)

class Task(asyncio.Task):
    def __init__(self, coroutine, **options):
        super().__init__(taken(coroutine), **options)

asyncio.Task = Task
"""

WORKS = """
import asyncio
{difference}
from backplane_core import InMemoryBackplane, Target
from backplane_core._runtime.waking import OWN_WAITERS

async def main():
    async with InMemoryBackplane() as pod, pod.connection("c1", Target.user("u1")) as connection:
        reading = asyncio.create_task(anext(connection))
        await asyncio.sleep(0)
        await pod.publish(Target.user("u1"), "event")
        print(OWN_WAITERS, (await reading).value)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    "difference",
    [
        "asyncio.SelectorEventLoop, real = None, asyncio.SelectorEventLoop",
        STRICT,
        "import sys; sys.modules['backplane_core._runtime.own_waiters'] = None",
    ],
    ids=["a loop that is not there", "a protocol that differs", "a module that can't be imported"],
)
def test_a_pod_works_in_a_python_that_differs(difference: str) -> None:
    assert run(WORKS.format(difference=difference), "-W", "error") == "False event\n"


# All that the others promise


@pytest.mark.skipif(FORCED, reason="this is that child")
@pytest.mark.timeout(600)
def test_plain_futures_keep_the_promises_of_the_hand_made_awaitable() -> None:
    names = ["test_waking", "test_sockets", "test_connection", "test_batches"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [*command, *[str(HERE / f"{name}.py") for name in names]],
        cwd=HERE.parents[2],
        env={**os.environ, "BACKPLANE_PLAIN_FUTURES": "1"},
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4_000:]
    assert " passed" in done.stdout
