"""A busy gateway that is asked to stop: every client gets its code, one after the other, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import suppress
from typing import Any

import httpx2
from attrs import define, field
from backplane_core import Target, connect
from backplane_testservers import Broker
from websockets.exceptions import ConnectionClosed

from tests.product.server.gateways import Gateway, gateway, token
from tests.support.sockets import attach
from tests.support.waiting import DEADLINE_S, until

ALL = Target("room", "all")
SOCKETS, STREAMS = 24, 3


@define
class Client:
    """What came to one client, and the code with which that ended."""

    got: list[int] = field(factory=list[int])
    code: int | None = None

    async def read_socket(self, websocket: Any) -> None:
        with suppress(ConnectionClosed):
            while True:
                self.got.append(json.loads(await websocket.recv()))
        self.code = websocket.close_code

    async def read_stream(self, served: Gateway, shown: str) -> None:
        headers = {"Authorization": f"Bearer {shown}"}
        async with served.http.stream("GET", f"http://{served.address}/events", headers=headers, timeout=None) as it:
            async for line in it.aiter_lines():
                if line.startswith("data: {"):
                    self.code = json.loads(line.removeprefix("data: "))["code"]
                elif line.startswith("data: "):
                    self.got.append(int(line.removeprefix("data: ")))
        # It ended in good order, else httpx raises.


@define
class Load:
    """Publishes by HTTP, one event after the other, until the gateway takes nothing else."""

    accepted: list[int] = field(factory=list[int])

    async def run(self, served: Gateway) -> None:
        number = 0
        with suppress(httpx2.TransportError):
            while True:
                shown = token(sub=f"job-{number % 50}", backplane={"roles": ["publisher"]})
                if (await served.publish(shown, ALL.text, number))[0] != 200:
                    return
                self.accepted.append(number)
                number += 1


async def test_every_client_of_a_busy_gateway_that_stops_gets_its_code_and_what_was_accepted(
    shared_broker: Broker, channel: str
) -> None:
    shown = token(backplane={"targets": [ALL.text]})
    load = Load()
    async with (
        connect(shared_broker.url, channel=channel) as pod,
        gateway("--drain-delay", "0.2", "--drain-s", "2", url=shared_broker.url, channel=channel) as served,
        asyncio.TaskGroup() as tasks,
    ):
        witness = await attach(pod, "witness", ALL)
        sockets, streams = [Client() for _ in range(SOCKETS)], [Client() for _ in range(STREAMS)]
        for client in sockets:
            tasks.create_task(client.read_socket(await served.websocket(shown)))
        reading = [tasks.create_task(client.read_stream(served, shown)) for client in streams]
        publishing = tasks.create_task(load.run(served))
        await until(lambda: all(client.got for client in sockets + streams), "all hear")
        served.running.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(publishing, *reading)
        ended = await served.running.ended()
        assert (ended.code, ended.err) == (0, "")
        await until(lambda: len(witness.events) >= len(load.accepted), "the other pod has all that was accepted")
    assert [client.code for client in sockets] == [1012] * SOCKETS
    assert [client.code for client in streams] == [1001] * STREAMS
    # An event whose answer did not come through may be one more.
    assert witness.events[: len(load.accepted)] == load.accepted
    for client in sockets + streams:
        first = client.got[0]
        assert client.got == list(range(first, first + len(client.got))), "in order, and none is missing up to its end"
    # Publishing went on meanwhile, so clients that were closed one after the other have heard up to different events.
    assert len({client.got[-1] for client in sockets}) > 2
