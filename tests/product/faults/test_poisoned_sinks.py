"""Sinks that misbehave in every way, on the far side of a broker: each is contained, and the others get everything."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from attrs import define, field
from backplane_core import BaseBackplane, ReentrantPublishError, Target, connect
from backplane_testservers import Broker

from tests.product.faults.rig import Rig
from tests.support.waiting import until

EVENTS = 200
HEALTHY = 10
TARGET = Target.user("u0")


class Poison(BaseException):
    """What is neither an Exception nor the program's own."""


@define
class Ward:
    """Poisoned sinks on one pod, and how often each was called."""

    backplane: BaseBackplane
    calls: Counter[str] = field(factory=Counter[str])
    attachments: dict[str, Any] = field(factory=dict[str, Any])

    async def admit(self, name: str, act: Callable[[], object]) -> None:
        def sink(_: object) -> object:
            self.calls[name] += 1
            return act()

        self.attachments[name] = await self.backplane.attach(name, sink)
        await self.backplane.associate(name, TARGET)

    def detaches(self, name: str) -> Callable[[], object]:
        def act() -> None:
            self.attachments[name].drop()

        return act

    def publishes(self) -> None:
        with pytest.raises(ReentrantPublishError):
            self.backplane.publish_nowait(TARGET, ["nobody", "u0", -1])
        self.calls["refused as reentrant"] += 1


def raises(error: BaseException) -> Callable[[], object]:
    def act() -> object:
        raise error

    return act


async def test_sinks_that_raise_detach_and_publish_harm_no_other(rig: Rig) -> None:
    here, there = await rig.pod(), await rig.pod()
    ward = Ward(there.backplane)
    fatal = {"poison": Poison(), "cancel": asyncio.CancelledError(), "exit": GeneratorExit(), "stop": StopIteration()}
    # Healthy ones before, between and behind, so that whoever is skipped shows.
    await rig.socket(there, "u0")
    for number in range(HEALTHY):
        await ward.admit(f"raises {number}", raises(ValueError("the event")))
        await rig.socket(there, "u0")
    for name, error in fatal.items():
        await ward.admit(name, raises(error))
    await ward.admit("detaches itself", ward.detaches("detaches itself"))
    await ward.admit("victim", lambda: None)
    await ward.admit("detaches another", ward.detaches("victim"))
    await ward.admit("publishes", ward.publishes)
    await ward.admit("refuses", lambda: False)
    await rig.socket(there, "u0")

    rig.targets = 1
    await rig.publish(here, EVENTS)
    await rig.settle()
    rig.ledger.assert_clean()
    total = EVENTS + 1  # settling published once more
    assert rig.ledger.missing == 0, "every healthy sink got every event"
    assert there.links == 1
    assert there.is_live
    stats = there.backplane.stats()
    assert stats.sink_errors == (HEALTHY + len(fatal)) * total
    assert stats.sink_refusals == total
    assert ward.calls["detaches itself"] == 1
    assert ward.calls["victim"] == 1, "it stands before the one that detaches it, so the first event still reached it"
    assert ward.calls["publishes"] == ward.calls["refused as reentrant"] == total
    assert all(ward.calls[name] == total for name in ("raises 0", *fatal))


PROGRAM = """
import asyncio, sys
from backplane_core import connect

def interrupts(event):
    raise {error}

def last(event):
    print("served", flush=True)

async def program():
    async with connect(sys.argv[1], channel=sys.argv[2]) as pod:
        await pod.attach("c0", interrupts)
        await pod.attach("c1", last)
        print("ready", flush=True)
        await asyncio.sleep(60)

asyncio.run(program())
"""


@pytest.mark.parametrize(("error", "code"), [("KeyboardInterrupt", -signal.SIGINT), ("SystemExit(7)", 7)])
async def test_what_is_meant_for_the_program_ends_the_program(
    leaves_nothing: None, shared_broker: Broker, channel: str, error: str, code: int
) -> None:
    """It comes up in the task that reads from the bus; there it must not be eaten."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", PROGRAM.format(error=error), shared_broker.url, channel),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30), connect(shared_broker.url, channel=channel) as publisher:
            assert await process.stdout.readline() == b"ready\n"
            await publisher.publish(Target.everyone(), 1)
            assert await process.stdout.read() == b"served\n", "after the others were served"
            assert await process.wait() == code
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_cancelled_task_is_cancelled_though_a_sink_raised(
    leaves_nothing: None, shared_broker: Broker, channel: str
) -> None:
    def raises(_: object) -> None:
        raise ValueError

    async def publish_for_ever(pod: BaseBackplane) -> None:
        while True:
            await pod.publish(Target.everyone(), 1)

    async with connect(shared_broker.url, channel=channel) as pod:
        await pod.attach("c1", raises)
        publishing = asyncio.create_task(publish_for_ever(pod))
        await until(lambda: pod.stats().sink_errors > 1_000, "many raised")
        publishing.cancel()
        await asyncio.wait([publishing])
        assert publishing.cancelled()
