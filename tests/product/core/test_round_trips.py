"""How long the bus takes, as a pod's own beats measure it; by a clock that jumps, so that the test knows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from backplane_core import DistributedBackplane, Frame, InMemoryBackplane, Publisher, Target, connect
from backplane_core._runtime.system import System
from backplane_core.testing import MemoryTransport
from backplane_testservers import Broker, OwnBroker

from tests.product.model.virtual_loop import VirtualLoop, run
from tests.support.links import LinkAround
from tests.support.waiting import DEADLINE_S, until

USER = Target.user("u1")


class JumpingBackplane(DistributedBackplane):
    """The real thing, by the loop's clock."""

    def __init__(self, transport: MemoryTransport, loop: VirtualLoop, **options: Any) -> None:
        self._given = System(monotonic=loop.time, wall=lambda: 1e9 + loop.time(), random=Random(1))
        super().__init__(transport, **options)

    def _make_system(self) -> System:
        return self._given


class SlowTransport(MemoryTransport):
    """Takes so many seconds for everything that is sent."""

    takes_s = 0.25

    async def open(self) -> Any:
        return SlowLink(await super().open(), self)


class SlowLink(LinkAround):
    def __init__(self, link: Any, transport: SlowTransport) -> None:
        super().__init__(link)
        self._transport = transport

    async def send(self, frames: Sequence[Frame]) -> None:
        await asyncio.sleep(self._transport.takes_s)
        await self._link.send(frames)


@pytest.mark.parametrize("routing", ["broadcast", "interest"])
def test_a_beat_shows_how_long_the_bus_takes(routing: str) -> None:
    loop = VirtualLoop()

    async def main() -> None:
        transport = SlowTransport()
        async with JumpingBackplane(transport, loop, probe_interval_s=10, routing=routing) as pod:
            await asyncio.sleep(100)
            first = pod.stats()
            assert first.round_trip_s == pytest.approx(0.25, abs=0.01)
            assert first.round_trips in range(8, 12), "one per probe"
            assert first.round_trip_total_s == pytest.approx(0.25 * first.round_trips, rel=0.05)
            transport.takes_s = 0.5
            for number in range(30):
                await pod.publish(Target.everyone(), number)
                await asyncio.sleep(3)
            busy = pod.stats()
            assert busy.round_trip_s == pytest.approx(0.5, abs=0.01)
            assert busy.round_trips - first.round_trips in range(25, 36), "one behind each burst"

    run(loop, main())


def test_a_beat_that_is_sent_again_after_an_outage_counts_once_and_with_the_outage() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        transport = SlowTransport()
        async with JumpingBackplane(transport, loop, probe_interval_s=10) as pod:
            broker = transport.broker
            await until(lambda: pod.stats().round_trips == 5, "five beats came back", 100)
            transport.takes_s = 1.0
            before = pod.stats()
            # It is on its way, when the link dies.
            await until(lambda: pod.stats().outbox_messages, "the next beat was sent", 100)
            broker.cut()
            await asyncio.sleep(20)
            broker.restore()
            await until(lambda: pod.stats().round_trips > before.round_trips, "it came back", 100)
            after = pod.stats()
            assert after.round_trip_s is not None
            assert 20 < after.round_trip_s < 30
            await asyncio.sleep(60)
            assert pod.stats().round_trip_s == pytest.approx(1.0, abs=0.01)
            assert pod.stats().round_trips - after.round_trips in range(5, 8)

    run(loop, main())


async def test_nothing_is_measured_where_there_is_no_bus() -> None:
    async with InMemoryBackplane() as pod:
        await pod.publish(USER, 1)
        assert (pod.stats().round_trips, pod.stats().round_trip_s) == (0, None)


@pytest.mark.parametrize("options", [{}, {"signing_keys": [b"k" * 32]}], ids=["plain", "signed"])
async def test_it_is_measured_over_real_brokers_by_who_hears(
    leaves_nothing: None, shared_broker: Broker, channel: str, options: Any
) -> None:
    async with (
        connect(shared_broker.url, channel=channel, beat_s=0.1, **options) as pod,
        Publisher(shared_broker.url, channel=channel, beat_s=0.1, **options) as publisher,
    ):
        await publisher.publish(USER, 1)
        await pod.publish(USER, 1)
        await until(lambda: pod.stats().round_trips >= 2, "two beats came back")
        assert 0 < (pod.stats().round_trip_s or 0) < DEADLINE_S
        assert pod.stats().round_trip_total_s >= (pod.stats().round_trip_s or 0)
        assert (publisher.stats().round_trips, publisher.stats().round_trip_s) == (0, None)


async def test_it_is_measured_over_a_log(leaves_nothing: None, redis_server: OwnBroker, channel: str) -> None:
    url = redis_server.url.replace("redis://", "redis+streams://")
    async with connect(url, channel=channel, beat_s=0.1) as pod:
        await pod.publish(USER, 1)
        await until(lambda: pod.stats().round_trips, "a beat came back")
