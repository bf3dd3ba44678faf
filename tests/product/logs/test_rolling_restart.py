"""Servers restart one by one under traffic, or die: over a log each client gets each event exactly once, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from random import Random
from typing import Final, TypeAlias

import httpx2
import pytest
from attrs import define, field
from backplane_core import BaseBackplane, Target, connect
from backplane_testservers import OwnBroker

from tests.product.asgi.servers import Server, serve
from tests.product.logs.servers import LogServer, RedisLogServer
from tests.product.logs.web_clients import EVERYONE, Published, Servers, WebClient
from tests.support.waiting import until

PODS: Final = 3
USERS, ROOMS = 30, 20
Clients: TypeAlias = Sequence[tuple[WebClient, asyncio.Task[None]]]
"""Each with the task in which it runs."""


@define(frozen=True)
class Size:
    """How large a run is.

    Args:
        clients: How many WebSockets.
        rate_per_s: Events per second, from outside and over the servers.
    """

    clients: int
    rate_per_s: int


@define
class Fleet:
    """Servers that come and go, each on its own port."""

    url: str
    channel: str
    servers: Servers = field(factory=Servers)
    exits: dict[int, AsyncExitStack] = field(factory=dict[int, AsyncExitStack])

    async def start(self) -> Server:
        """Start a server, and send clients to it once it is ready."""
        stack = AsyncExitStack()
        server = await stack.enter_async_context(serve(self.url, BACKPLANE_CHANNEL=self.channel))
        self.exits[server.port] = stack
        self.servers.up.append(server)
        return server

    async def kill(self, server: Server) -> None:
        """Kill a server, as a machine does that loses its power: nobody is told."""
        self.servers.up.remove(server)
        server.process.kill()
        await server.process.wait()
        await self.exits.pop(server.port).aclose()

    async def stop(self, server: Server) -> None:
        """Ask a server to stop, and return once it has; clients may still come to it meanwhile."""
        server.terminate()
        await server.ends(60)
        self.servers.up.remove(server)
        await self.exits.pop(server.port).aclose()


@define
class Senders:
    """What is published: by a worker all the time, and over the servers, by each for as long as it takes events.

    Args:
        worker: A backplane without connections.
        fleet: The servers.
        rate_per_s: Events of both together.
    """

    worker: BaseBackplane
    fleet: Fleet
    rate_per_s: int
    published: Published = field(factory=Published)
    is_over: bool = False

    async def run(self) -> None:
        """Publish until it is over."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.work())
            group.create_task(self._post())

    async def work(self) -> None:
        """Publish from outside until it is over."""
        random = Random("worker")
        while not self.is_over:
            targets = _draw(random)
            if random.random() < 0.05:
                targets = [EVERYONE]
            event = self.published.next("worker", *targets)
            await self.worker.publish([_target(text) for text in targets], event)
            await asyncio.sleep(2 / self.rate_per_s)

    async def _post(self) -> None:
        random = Random("posts")
        while not self.is_over:
            server, target = random.choice(self.fleet.servers.up), random.choice(_rooms())
            event = self.published.next(f"server {server.port}", target)
            try:
                answer = await server.client.post(
                    "/publish", json={"target": target, "event": event}, headers={"Authorization": "Bearer ann"}
                )
            except httpx2.TransportError:
                self.published.unknown.add(event)
            else:
                if answer.status_code != 200:
                    self.published.unknown.add(event)
            await asyncio.sleep(2 / self.rate_per_s)


def _draw(random: Random) -> list[str]:
    chosen = [f"user:u{random.randrange(USERS)}"]
    if random.random() < 0.3:
        chosen.append(random.choice(_rooms()))
    return chosen


def _rooms() -> list[str]:
    return [f"room:{number}" for number in range(ROOMS)]


def _target(text: str) -> Target:
    return Target.everyone() if text == EVERYONE else Target.parse(text)


@pytest.fixture
def size(*, full: bool, long: bool) -> Size:
    return Size(300, 200) if long else Size(60, 100) if full else Size(20, 60)


async def test_servers_that_restart_one_by_one_cost_no_client_an_event(
    log_server: LogServer, channel: str, size: Size
) -> None:
    clients, published = await restart_one_by_one(log_server, channel, size)
    assert not [fault for client in clients for fault in client.faults(published)]
    assert len(published.unknown) < published.total / 20
    assert sum([client.replayed for client in clients]) > 0, "something was missed meanwhile"


async def test_clients_that_do_not_say_where_they_were_lose_what_was_published_meanwhile(
    redis_server: OwnBroker, channel: str, size: Size
) -> None:
    clients, published = await restart_one_by_one(RedisLogServer(redis_server), channel, size, resume=False)
    faults = [fault for client in clients for fault in client.faults(published)]
    assert any("lacks" in fault for fault in faults)
    assert not any("lacks" not in fault for fault in faults)


async def test_a_server_that_dies_costs_none_of_its_clients_an_event(
    log_server: LogServer, channel: str, size: Size
) -> None:
    async with AsyncExitStack() as stack, connect(log_server.url, channel=channel) as worker:
        fleet = Fleet(log_server.url, channel)
        stack.push_async_callback(_stop_all, fleet)
        first = await fleet.start()
        clients = await _attached(fleet, size)
        for _ in range(PODS - 1):
            await fleet.start()
        # Over the servers nothing is published: what a killed one had not sent is gone, and nobody can know of it.
        senders = Senders(worker, fleet, size.rate_per_s)
        sending = asyncio.create_task(senders.work())
        await until(lambda: all(client.count for client, _ in clients), "all get something", 60)
        await fleet.kill(first)
        await until(lambda: all(client.visits > 1 for client, _ in clients), "all have come back", 60)
        senders.is_over = True
        await sending
        await _settle(clients, worker, senders.published, is_whole=True)
    assert not [fault for client, _ in clients for fault in client.faults(senders.published)]
    assert sum([client.replayed for client, _ in clients]) > 0, "something was missed meanwhile"
    assert {code for client, _ in clients for code in client.codes} <= {None, 1006}


async def restart_one_by_one(
    log_server: LogServer, channel: str, size: Size, *, resume: bool = True
) -> tuple[list[WebClient], Published]:
    """Return the clients of servers that all were replaced under traffic, and what was published."""
    async with AsyncExitStack() as stack, connect(log_server.url, channel=channel) as worker:
        fleet = Fleet(log_server.url, channel)
        stack.push_async_callback(_stop_all, fleet)
        for _ in range(PODS):
            await fleet.start()
        clients = await _attached(fleet, size, resume=resume)
        senders = Senders(worker, fleet, size.rate_per_s)
        sending = asyncio.create_task(senders.run())
        for server in [*fleet.servers.up]:
            before = senders.published.total
            await fleet.stop(server)
            await fleet.start()
            assert senders.published.total > before, "events are published meanwhile"
        senders.is_over = True
        await sending
        await _settle(clients, worker, senders.published, is_whole=resume)
    assert sum([len(client.codes) for client, _ in clients]) >= size.clients, "each was sent away at least once"
    assert {code for client, _ in clients for code in client.codes} == {1001}
    return [client for client, _ in clients], senders.published


async def _attached(fleet: Fleet, size: Size, *, resume: bool = True) -> Clients:
    """Return clients that are attached, each with the task in which it runs."""
    clients = [
        WebClient(number, fleet.servers, f"u{number % USERS}", f"room:{number % ROOMS}", resumes=resume)
        for number in range(size.clients)
    ]
    running = [asyncio.create_task(client.run()) for client in clients]
    async with asyncio.timeout(60):
        await asyncio.gather(*[client.is_attached.wait() for client in clients])
    return list(zip(clients, running, strict=True))


async def _settle(clients: Clients, worker: BaseBackplane, published: Published, *, is_whole: bool) -> None:
    """End the clients once the last event is everywhere, and all has come that should: lanes are read each for itself.

    Args:
        clients: With their tasks.
        worker: Publishes the last event.
        published: What was published.
        is_whole: Whether all should come.
    """
    await worker.publish(Target.everyone(), published.next("end", EVERYONE))
    await until(
        lambda: all(client.got["end"] for client, _ in clients) or any(task.done() for _, task in clients),
        "the end comes to all",
        60,
    )
    with suppress(AssertionError):
        if is_whole:
            await until(lambda: not any(client.faults(published) for client, _ in clients), "all has come", 20, 0.2)
    for _, task in clients:
        task.cancel()
    await asyncio.wait([task for _, task in clients])
    for _, task in clients:
        if not task.cancelled():
            task.result()


async def _stop_all(fleet: Fleet) -> None:
    for server in [*fleet.servers.up]:
        await fleet.stop(server)
