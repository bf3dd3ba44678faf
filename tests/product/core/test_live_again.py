"""How soon a pod is live again once its broker is back, however long that was away: by a clock that jumps."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, Literal

import pytest
from backplane_core import DistributedBackplane, Link, TransportError
from backplane_core._runtime.system import System
from backplane_core.testing import MemoryBroker, MemoryTransport

from tests.product.model.virtual_loop import VirtualLoop, run

PODS = 40
PROMISED_S = 2.0
"""As docs/explanation/failures.md says; a handshake takes no time here."""


class JumpingBackplane(DistributedBackplane):
    """The real thing, by the loop's clock."""

    def __init__(self, transport: MemoryTransport, loop: VirtualLoop, seed: int, **options: Any) -> None:
        self._given = System(monotonic=loop.time, wall=lambda: 1e9 + loop.time(), random=Random(seed))
        super().__init__(transport, **options)

    def _make_system(self) -> System:
        return self._given


class BusyTransport(MemoryTransport):
    """Opens no link while it is busy: it says why not, or nothing at all, as an overloaded broker."""

    busy: Literal["says so", "is silent"] | None = None
    attempts = 0

    async def open(self) -> Link:
        self.attempts += 1
        if self.busy == "says so":
            raise TransportError("LOADING the dataset in memory")
        if self.busy == "is silent":
            await asyncio.get_running_loop().create_future()
        return await super().open()


async def live_after(pods: list[JumpingBackplane], loop: VirtualLoop) -> list[float]:
    """How long each takes from now on."""
    since = loop.time()

    async def wait(pod: JumpingBackplane) -> float:
        await pod.wait_for_state("live")
        return loop.time() - since

    return await asyncio.gather(*[wait(pod) for pod in pods])


@pytest.mark.thorough
@pytest.mark.parametrize("outage_s", [1.0, 19.0, 25.0, 3_600.0])
def test_a_fleet_is_live_within_2_s_of_a_broker_that_is_back_and_not_all_at_once(outage_s: float) -> None:
    loop = VirtualLoop()

    async def main() -> list[float]:
        broker = MemoryBroker()
        pods = [JumpingBackplane(MemoryTransport(broker), loop, seed, beat_s=60) for seed in range(PODS)]
        for pod in pods:
            await pod.__aenter__()
        broker.cut()
        await asyncio.sleep(outage_s)
        assert {pod.state for pod in pods} == {"degraded"}
        broker.restore()
        took = await live_after(pods, loop)
        for pod in pods:
            await pod.aclose()
        return took

    took = run(loop, main())
    assert max(took) <= PROMISED_S
    at_once = max([sum([first <= one < first + 0.1 for one in took]) for first in took])
    assert at_once <= PODS / 2


@pytest.mark.parametrize(
    ("busy", "asked", "within_s"),
    [("says so", range(300, 600), PROMISED_S), ("is silent", range(100, 150), 5.0 + 1.0)],
)
def test_a_broker_that_answers_nothing_for_long_is_asked_less_often_than_one_that_says_why(
    busy: Literal["says so", "is silent"], asked: range, within_s: float
) -> None:
    loop = VirtualLoop()

    async def main() -> None:
        transport = BusyTransport()
        pod = await JumpingBackplane(transport, loop, 1, connect_timeout_s=1, beat_s=60).__aenter__()
        transport.busy = busy
        transport.broker.drop_links()
        await asyncio.sleep(600)
        assert transport.attempts in asked
        transport.busy = None
        assert max(await live_after([pod], loop)) <= within_s
        await pod.aclose()

    run(loop, main())
