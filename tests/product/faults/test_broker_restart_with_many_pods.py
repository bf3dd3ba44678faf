"""A broker that is restarted under many pods: they come back one by one, each with all of its channels.

A pod here is a backplane with a link of its own. Several share a process: twenty interpreters would test the host.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
from attrs import frozen
from backplane_core import Target, connect
from backplane_core._link.subscriber import SUBSCRIBE_BATCH
from backplane_testservers import OwnBroker

from tests.product.pods.processes import PodProcess, start_process

WITHIN_S = 300.0
AN_INSTANT_S = 0.03


@frozen
class Size:
    processes: int
    pods_each: int
    targets: int

    @property
    def pods(self) -> int:
        return self.processes * self.pods_each


SMALL = Size(4, 5, 1_100)
FULL = Size(4, 5, 2_000)
LONG = Size(10, 20, 5_000)


def most_at_once(moments: list[float]) -> int:
    """How many of these lie within one instant, at most."""
    return max([sum([first <= moment < first + AN_INSTANT_S for moment in moments]) for first in moments])


async def start_crowd(stack: AsyncExitStack, url: str, options: dict[str, Any], size: Size) -> list[PodProcess]:
    crowd: list[PodProcess] = []
    for number in range(size.processes):
        process = await start_process(
            "tests.product.pods.crowd_process",
            url,
            json.dumps(options),
            str(number),
            str(size.pods_each),
            str(size.targets),
        )
        stack.push_async_callback(_end, process)
        crowd.append(process)
    for process in crowd:
        assert await process.hear(WITHIN_S) == {"live": size.pods_each}
    return crowd


async def _end(crowd: PodProcess) -> None:
    if crowd.process.returncode is None:
        crowd.process.kill()
    await crowd.process.wait()


async def all_got(crowd: list[PodProcess], count: int) -> None:
    """Return once each pod has got so many events."""
    async with asyncio.timeout(WITHIN_S):
        for process in crowd:
            while min((await process.ask(do="got"))["got"]) < count:  # noqa: ASYNC110 -- in another process
                await asyncio.sleep(0.05)


@pytest.mark.timeout(900)
async def test_many_pods_come_back_spread_out_and_hear_all_of_their_targets(
    leaves_nothing: None, broker: OwnBroker, channel: str, record_property: Any, *, full: bool, long: bool
) -> None:
    size = LONG if long else FULL if full else SMALL
    options: dict[str, Any] = {"channel": channel, "routing": "interest"}
    async with AsyncExitStack() as stack:
        crowd = await start_crowd(stack, broker.url, options, size)
        publisher = await stack.enter_async_context(connect(broker.url, **options))
        for process in crowd:
            assert await process.ask(do="watch") == {"watching": True}
        broker.kill()
        # Long enough that the waits between attempts have grown: else all would be back in an instant, in step or not.
        attempts = [(await process.hear(WITHIN_S))["failing"] for process in crowd]
        await asyncio.to_thread(broker.start)
        again = [(await process.hear(WITHIN_S))["again"] for process in crowd]

        opened = [at for said in again for at in said["opened"]]
        record_property("connects spread over (s)", max(opened) - min(opened))
        record_property("most connects within 30 ms", most_at_once(opened))
        assert len(opened) >= size.pods
        assert most_at_once(opened) <= size.pods / 2, "they draw their waits"
        assert max(attempts) <= 30, "and wait between attempts"
        for said in again:
            links = len(said["opened"]) / size.pods_each
            assert all(channels >= size.targets + 2 for channels in said["channels"])
            assert sum(said["commands"]) <= -(-(size.targets + 2) // SUBSCRIBE_BATCH) * size.pods_each * links
            assert min(said["gaps"]) >= 1, "each connection was told"

        await publisher.wait_for_state("live", timeout_s=WITHIN_S)
        for name in [f"{process}-{pod}" for process in range(size.processes) for pod in range(size.pods_each)]:
            for number in (0, size.targets // 2, size.targets - 1):
                await publisher.publish(Target("room", f"{name}-{number}"), "after")
        await all_got(crowd, 3)
        for process in crowd:
            assert await process.ask(do="stop") == {"stopped": True}
            assert await process.process.wait() == 0
