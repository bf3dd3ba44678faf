"""How often publish may suspend, counted in waits and turns of the loop: the broker's health is none of it."""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any

import pytest
from attrs import define
from backplane_core import Target
from backplane_testservers import OwnBroker

from tests.product.faults.rig import Pod, Rig

PUBLISHES = 5_000
OUTBOX = 1_000
TURN_MESSAGES = OUTBOX / 4


@define
class Suspensions:
    """How often a coroutine gave the loop a turn, and how often it waited for something."""

    turns: int = 0
    waits: int = 0

    @types.coroutine
    def count(self, work: Coroutine[Any, Any, int]) -> Generator[Any, Any, int]:
        steps = work.__await__()
        resume: Callable[[], Any] = partial(next, steps)
        while True:
            try:
                step = resume()
            except StopIteration as end:
                return int(end.value)
            if step is None:
                self.turns += 1
            else:
                self.waits += 1
            try:
                yield step
            except BaseException as error:  # noqa: BLE001 -- a timeout's cancellation, which is for the work
                resume = partial(steps.throw, error)
            else:
                resume = partial(next, steps)


async def publish(pod: Pod) -> Suspensions:
    suspended = Suspensions()
    for number in range(PUBLISHES):
        await suspended.count(pod.backplane.publish(Target.user("u1"), number))
    return suspended


@pytest.mark.parametrize("routing", ["broadcast"], indirect=True)
@pytest.mark.parametrize("fault", ["frozen", "black hole", "dead"])
async def test_whatever_is_wrong_with_the_broker_publish_waits_for_room_once_and_then_never(
    rig: Rig, broker: OwnBroker, fault: str
) -> None:
    proxy = rig.proxy()
    here = await rig.pod(proxy, outbox_max_messages=OUTBOX, publish_wait_s=0.005)
    await rig.sockets(here, 5)
    if fault == "frozen":
        broker.freeze()
    elif fault == "black hole":
        proxy.up.drop()
        proxy.down.drop()
    else:
        broker.kill()
        await rig.all_degraded()
    suspended = await publish(here)
    # A pod does not know at once that its broker is gone: it waits for room once, at most publish_wait_s.
    assert suspended.waits <= (0 if fault == "dead" else 1)
    assert 0 < suspended.turns <= PUBLISHES / TURN_MESSAGES + 1
    assert here.backplane.stats().dropped["outbox"] >= PUBLISHES - OUTBOX, "it did fill up"
    if fault == "frozen":
        broker.thaw()
