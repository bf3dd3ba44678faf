"""Connections that come and go by the thousands: nothing stays behind, and the broker is asked in batches."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import pytest
from backplane_core import BaseBackplane, Target
from backplane_testservers import ProcessBroker, RedisServer

from tests.conftest import StartServer
from tests.product.faults.asking import monitored_nats, subscribe_commands, subscriptions
from tests.product.faults.rig import Rig
from tests.support.waiting import until

AT_ONCE = 200
CONNECTIONS = 10_000
CONNECTIONS_LONG = 100_000
TARGETS_EACH = 3
EDGES_EACH = 2 * (1 + TARGETS_EACH)  # its own id, too; each is gained and lost
EDGES_PER_COMMAND = 20


@pytest.fixture
def broker(request: pytest.FixtureRequest, start: StartServer) -> ProcessBroker:
    return start(RedisServer() if request.param == "redis" else monitored_nats())


async def come_and_go(pod: BaseBackplane, numbers: count[int], last: int) -> None:
    while (number := next(numbers)) < last:
        name = f"c{number}"
        await pod.attach(name, lambda _: None)
        for part in range(TARGETS_EACH):
            assert await pod.associate(name, Target("room", f"{number}-{part}")) is True
        await pod.detach(name)


async def longest_stall(stalls: list[float]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        before = loop.time()
        await asyncio.sleep(0)
        stalls.append(loop.time() - before)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("broker", ["redis", "nats"], indirect=True)
@pytest.mark.parametrize("routing", ["interest"], indirect=True)
async def test_connections_that_come_and_go_leave_nothing_behind_and_share_their_commands(
    rig: Rig, broker: ProcessBroker, record_property: Any, *, long: bool
) -> None:
    proxy = rig.proxy()
    lines: list[bytes] = []
    proxy.up.tap = lines.append
    here, there = await rig.pod(proxy), await rig.pod()
    await rig.sockets(there, 5)
    await rig.sockets(here, 5)
    base = subscriptions(broker)
    asked = subscribe_commands(broker) if isinstance(broker, RedisServer) else 0
    lines.clear()
    connections = CONNECTIONS_LONG if long else CONNECTIONS
    numbers, stalls = count(), list[float]()
    async with rig.traffic(there, rate_per_s=100):
        watching = asyncio.create_task(longest_stall(stalls))
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(come_and_go(here.backplane, numbers, connections))
        watching.cancel()
    stats = here.backplane.stats()
    assert (stats.connections, stats.targets) == (5, 5)
    await until(lambda: subscriptions(broker) == base, "the broker is rid of them", 30)
    if isinstance(broker, RedisServer):
        commands = subscribe_commands(broker) - asked
    else:
        # NATS has a line for each subject; what is shared is the write, and the PING that confirms it.
        commands = b"".join(lines).count(b"PING\r\n")
        assert b"".join(lines).count(b"SUB ") >= connections
    record_property("edges per command", connections * EDGES_EACH / commands)
    stalls.sort()
    record_property("longest stall of 999 in 1000 (ms)", 1000 * stalls[int(len(stalls) * 0.999)])
    assert 0 < commands <= connections * EDGES_EACH / EDGES_PER_COMMAND
    await rig.settle()
    rig.ledger.assert_clean()
    assert rig.ledger.missing == 0, "those that stayed missed nothing meanwhile"
    assert (here.links, here.gaps) == (1, [])
