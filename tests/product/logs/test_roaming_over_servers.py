"""Clients that roam over the pods of a fleet, over a server that keeps its log: each gets each event once, in order."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from random import Random

import pytest
from backplane_core import DistributedBackplane, Event, Gap, Target, connect
from backplane_testservers import NatsServer, Proxy

from tests.product.logs.servers import JetStreamServer, LogServer
from tests.product.logs.traffic import USER, Traffic, fleet

EVENTS = 1_000
LAST = "last"


class RoamingClient:
    """Changes pods every few events with the id of the last one that it got.

    Args:
        traffic: The fleet.
        seed: Of where it goes, and when.
    """

    def __init__(self, traffic: Traffic, seed: int) -> None:
        self._traffic = traffic
        self._random = Random(seed)
        self.got: list[object] = []
        self.gaps: list[Gap] = []
        self.roams = 0
        self.is_attached = asyncio.Event()

    async def run(self) -> None:
        """Return once each pod's last event has come."""
        last_id: str | None = None
        while self.got.count(LAST) < len(self._traffic.pods):
            pod = self._random.choice(self._traffic.pods)
            assert isinstance(pod, DistributedBackplane)
            stay = self._random.randint(1, 40)
            self.roams += 1
            async with pod.connection(None, USER, Target.user("other"), resume_from=last_id) as connection:
                if last_id is None:
                    self.is_attached.set()
                async for item in connection.items():
                    if isinstance(item, Event):
                        self.got.append(item.value)
                        last_id = item.id
                        stay -= 1
                    else:
                        self.gaps.append(item)
                    if stay <= 0 or self.got.count(LAST) == len(self._traffic.pods):
                        break
            await asyncio.sleep(self._random.uniform(0, 0.05))


@pytest.mark.parametrize("seed", [1, 2])
async def test_clients_that_roam_over_a_server_that_dies_get_each_event_once_and_in_order(
    jetstream_server: NatsServer, channel: str, seed: int
) -> None:
    log_server = JetStreamServer(jetstream_server)
    with Proxy(log_server.broker.host, log_server.broker.port) as proxy:
        async with fleet(proxy.url(log_server.url), channel) as traffic:
            clients = [RoamingClient(traffic, 10 * seed + number) for number in range(6)]
            running = [asyncio.create_task(client.run()) for client in clients]
            await asyncio.gather(*[client.is_attached.wait() for client in clients])
            for _ in range(2):
                links = traffic.links
                publishing = asyncio.create_task(traffic.publish(EVENTS // 2))
                await asyncio.sleep(0.05)
                await asyncio.to_thread(log_server.broker.kill)
                await asyncio.to_thread(log_server.broker.start)
                await publishing
                await traffic.live_again(links)
            for pod in traffic.pods:
                await pod.publish(USER, LAST)
            async with asyncio.timeout(60):
                await asyncio.gather(*running)
            for client in clients:
                assert client.roams > 5
                numbers = [number for number in client.got if isinstance(number, int)]
                assert len(set(numbers)) == len(numbers), "an event came twice"
                for sender in range(len(traffic.pods)):
                    own = [number for number in numbers if number % len(traffic.pods) == sender]
                    assert own == sorted(own), "events came out of order"
                assert len(numbers) == traffic.number
                assert not client.gaps


@pytest.mark.parametrize("is_early", [False, True], ids=["started later", "started before"])
async def test_a_client_follows_from_the_pod_that_wrote_the_first_entry_of_a_log(
    log_server: LogServer, channel: str, *, is_early: bool
) -> None:
    """Its id stands at the beginning of a log that was empty when its pod began to read it."""
    async with AsyncExitStack() as stack:
        first = await connect(log_server.url, channel=channel)
        async with first.connection(None, USER) as connection:
            await first.publish(USER, "first")
            event = await anext(connection)
            assert event.value == "first"
        if not is_early:
            await first.aclose()
        second = await stack.enter_async_context(connect(log_server.url, channel=channel))
        await first.aclose()
        await second.publish(USER, "missed")
        async with second.connection(None, USER, resume_from=event.id) as connection:
            await second.publish(USER, LAST)
            got = [await anext(connection.items()) for _ in range(2)]
    assert [item.value if isinstance(item, Event) else item for item in got] == ["missed", LAST]
