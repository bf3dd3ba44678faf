"""The chat of the examples on two real servers: a broker that is killed and servers that restart cost nobody a word."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
from attrs import define, field
from backplane_testservers import OwnBroker
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.product.asgi.servers import Server, serve_by
from tests.support.waiting import until

COMMAND = ("-m", "uvicorn", "examples.litestar_chat:app", "--fd", "{fd}", "--log-level", "info")


@asynccontextmanager
async def chat(url: str, channel: str) -> AsyncGenerator[Server]:
    """Run a server of the chat that hears the broker."""
    async with serve_by(COMMAND, BACKPLANE_URL=url, BACKPLANE_CHANNEL=channel, metrics="/health") as server:
        await hears(server, live=True)
        yield server


async def hears(server: Server, *, live: bool) -> None:
    """Return once a server hears the broker, or has noticed that it does not."""
    for _ in range(3_000):
        if (await server.get("/health")).json()["live"] is live:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"it is not {'live' if live else 'deaf'}: {server.log}")


@define
class Client:
    """One person in the room.

    Args:
        socket: The connection.
    """

    socket: ClientConnection
    heard: list[str] = field(factory=list[str])
    said: int = 0

    async def listen(self) -> None:
        with suppress(ConnectionClosed):
            async for message in self.socket:
                read = json.loads(message)
                self.heard.append(read.get("text", read["type"]))

    async def say(self, name: str, count: int = 1) -> None:
        for _ in range(count):
            await self.socket.send(f"{name} {self.said}")
            self.said += 1

    def words(self) -> dict[str, list[int]]:
        """Return the numbers that were heard, in order, by speaker."""
        found: dict[str, list[int]] = defaultdict(list)
        for text in self.heard:
            if text != "reload":
                name, number = text.split()
                found[name].append(int(number))
        return found

    @property
    def gaps(self) -> int:
        return self.heard.count("reload")


@asynccontextmanager
async def entered(server: Server) -> AsyncGenerator[Client]:
    """Enter the room, and listen; what is said there from now on is heard."""
    async with server.websocket("/rooms/blue") as socket, asyncio.TaskGroup() as tasks:
        client = Client(socket)
        listening = tasks.create_task(client.listen())
        try:
            # The client that hears itself has been subscribed.
            await socket.send("here 0")
            await until(lambda: "here 0" in client.heard, "the first words")
            client.heard.clear()
            yield client
        finally:
            listening.cancel()


def has(client: Client, name: str, count: int) -> Callable[[], bool]:
    return lambda: len(client.words()[name]) >= count


@pytest.fixture
async def pair(broker: OwnBroker, channel: str) -> AsyncGenerator[tuple[Server, Server]]:
    async with chat(broker.url, channel) as here, chat(broker.url, channel) as there:
        yield here, there


async def test_what_one_says_all_hear_once_and_in_order(pair: tuple[Server, Server]) -> None:
    here, there = pair
    async with entered(here) as ann, entered(there) as bob, entered(there) as cat:
        async with asyncio.TaskGroup() as talk:
            talk.create_task(ann.say("ann", 100))
            talk.create_task(bob.say("bob", 100))
        for client in (ann, bob, cat):
            await until(has(client, "ann", 100), "all of hers")
            await until(has(client, "bob", 100), "all of his")
            assert client.words()["ann"] == client.words()["bob"] == list(range(100))
            assert client.gaps == 0


async def test_a_killed_broker_ends_no_listener_and_what_is_missing_is_reported(
    pair: tuple[Server, Server], broker: OwnBroker
) -> None:
    here, there = pair
    async with entered(here) as ann, entered(there) as bob:
        for kill in range(2):
            await ann.say("ann", 20)
            broker.kill()
            for server in pair:
                await hears(server, live=False)
            await ann.say("ann", 20)
            broker.start()
            for server in pair:
                await hears(server, live=True)
            await ann.say("ann", 20)
            await until(lambda: bob.words()["ann"][-1:] == [ann.said - 1], "the last words")
            assert bob.gaps > kill, "each outage is reported"
        await until(lambda: len(ann.words()["ann"]) >= ann.said, "her own words")
        assert ann.words()["ann"] == list(range(ann.said)), "on the own server nothing is missing"
        heard = bob.words()["ann"]
        assert heard == sorted(set(heard)), "never twice, in order"
        assert_reported(bob, ann.said)


def assert_reported(client: Client, said: int) -> None:
    """Fail unless each hole has a gap in its place."""
    last, is_reported = -1, False
    for text in client.heard:
        if text == "reload":
            is_reported = True
            continue
        number = int(text.split()[1])
        assert number == last + 1 or is_reported, f"{last + 1} to {number - 1} are missing without a word"
        last, is_reported = number, False
    assert last == said - 1


async def test_servers_restart_one_after_the_other_while_people_talk(broker: OwnBroker, channel: str) -> None:
    async with AsyncExitStack() as stack:
        stable = await stack.enter_async_context(chat(broker.url, channel))
        ann = await stack.enter_async_context(entered(stable))
        speaking = True

        async def talk() -> None:
            while speaking:
                await ann.say("ann")
                await asyncio.sleep(0.005)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(talk())
            try:
                for restart in range(3):
                    async with chat(broker.url, channel) as server, entered(server) as bob:
                        first = ann.said
                        await until(has(bob, "ann", 20), "words from the other server")
                        await bob.say(f"bob{restart}", 5)
                        await until(has(ann, f"bob{restart}", 5), "words to the other server")
                        server.terminate()
                        await server.ends()
                        heard = bob.words()["ann"]
                        assert heard == list(range(heard[0], heard[0] + len(heard))), "all, once, in order"
                        assert heard[0] <= first
                        assert bob.gaps == 0
            finally:
                speaking = False
        await until(has(ann, "ann", ann.said), "the last words")
        assert ann.words()["ann"] == list(range(ann.said))
        assert all(ann.words()[f"bob{restart}"] == list(range(5)) for restart in range(3))
        assert ann.gaps == 0
