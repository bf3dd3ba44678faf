"""The chat of the examples on two real servers: a broker that is killed and servers that restart cost nobody a word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import socketio  # type: ignore[import-untyped]
from attrs import define, field
from backplane_testservers import OwnBroker

from tests.product.asgi.servers import Server, serve_by
from tests.support.waiting import DEADLINE_S, until

NEW = "examples.socketio_chat:app"
OLD = "tests.product.socketio.old_chat:app"


@asynccontextmanager
async def chat(
    url: str, channel: str, app: str = NEW, *, by_room: bool = False, bridge: str = ""
) -> AsyncGenerator[Server]:
    """Run a server of the chat."""
    command = ("-m", "uvicorn", app, "--fd", "{fd}", "--log-level", "info")
    async with serve_by(
        command,
        BACKPLANE_URL=url,
        BACKPLANE_CHANNEL=channel,
        CHAT_BY_ROOM="1" if by_room else "0",
        CHAT_BRIDGE=bridge,
        metrics="/health",
    ) as server:
        if app == NEW:
            await hears(server, live=True)
        yield server


async def hears(server: Server, *, live: bool) -> None:
    """Return once a server hears the broker, or has noticed that it does not."""
    for _ in range(3_000):
        if (await server.get("/health")).json()["live"] is live:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"it is not {'live' if live else 'deaf'}: {server.log}")


@define(eq=False)
class Person:
    """One person in the room.

    Args:
        client: The connection.
    """

    client: Any
    heard: list[str] = field(factory=list[str])
    said: int = 0

    async def say(self, name: str, count: int = 1) -> None:
        for _ in range(count):
            await self.client.emit("say", ("blue", f"{name} {self.said}"))
            self.said += 1

    def missed(self, _: Any) -> None:
        """Take note that something may be missing."""
        self.heard.append("reload")

    def words(self, name: str) -> list[int]:
        """Return the numbers that were heard of a speaker, in order."""
        return [int(text.split()[1]) for text in self.heard if text.startswith(f"{name} ")]


@asynccontextmanager
async def entered(server: Server) -> AsyncGenerator[Person]:
    """Enter the room; what is said there from now on is heard."""
    client: Any = socketio.AsyncClient(reconnection=False)
    person = Person(client)
    client.on("said", person.heard.append)
    client.on("reload", person.missed)
    await client.connect(f"http://127.0.0.1:{server.port}", transports=["websocket"], wait_timeout=int(DEADLINE_S))
    try:
        await client.emit("join", "blue")
        await client.emit("say", ("blue", "here 0"))
        await until(lambda: "here 0" in person.heard, "the first words")
        await hears(server, live=True)
        person.heard.clear()
        yield person
    finally:
        await client.disconnect()


@pytest.fixture
async def pair(broker: OwnBroker, channel: str, routing: str) -> AsyncGenerator[tuple[Server, Server]]:
    by_room = routing == "interest"
    async with (
        chat(broker.url, channel, by_room=by_room) as here,
        chat(broker.url, channel, by_room=by_room) as there,
    ):
        yield here, there


async def test_a_killed_broker_costs_the_own_server_nothing_and_others_get_a_word_for_what_is_missing(
    pair: tuple[Server, Server], broker: OwnBroker
) -> None:
    here, there = pair
    async with entered(here) as ann, entered(there) as bob:
        await ann.say("ann", 50)
        await until(lambda: bob.words("ann") == list(range(50)), "all words")
        assert "reload" not in bob.heard
        broker.kill()
        for server in pair:
            await hears(server, live=False)
        await ann.say("ann", 20)
        broker.start()
        for server in pair:
            await hears(server, live=True)
        await ann.say("ann", 20)
        await until(lambda: bob.words("ann")[-1:] == [ann.said - 1], "the last words")
        await until(lambda: "reload" in bob.heard, "a word of the outage")
        await until(lambda: len(ann.words("ann")) >= ann.said, "her own words")
        assert ann.words("ann") == list(range(ann.said)), "on the own server nothing is missing"
        words = bob.words("ann")
        assert words == sorted(set(words)), "never twice, in order"


@pytest.mark.parametrize("stays", [OLD, NEW])
async def test_servers_move_from_the_old_manager_to_the_new_one_while_people_talk(
    stays: str, redis_url: str, shared_broker: Any, channel: str
) -> None:
    """Servers come and go next to one that stays; its people, and theirs, hear all, once, in order."""
    # Without a bridge a new server hears new ones alone: that is the last step, once no old one is left.
    waves = [(OLD, redis_url), (NEW, redis_url), *([(NEW, "")] if stays == NEW else [])]
    speaking = True
    async with chat(shared_broker.url, channel, stays, bridge=redis_url) as stable, entered(stable) as ann:

        async def talk() -> None:
            while speaking:
                await ann.say("ann")
                await asyncio.sleep(0.005)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(talk())
            try:
                for number, (app, bridge) in enumerate(waves):
                    async with chat(shared_broker.url, channel, app, bridge=bridge) as server, entered(server) as bob:
                        await meet((ann, stays), (bob, app), f"bob{number}")
            finally:
                speaking = False
        await until(lambda: len(ann.words("ann")) == ann.said, "the last words")
        assert ann.words("ann") == list(range(ann.said))
        assert "reload" not in ann.heard


async def meet(one: tuple[Person, str], other: tuple[Person, str], name: str) -> None:
    """Have one on another server hear what is said, and be heard; each comes with the app of the server."""
    (ann, her_app), (bob, his_app) = one, other
    await until(lambda: len(bob.words("ann")) >= 30, "words from the other server")
    await bob.say(name, 10)
    await until(lambda: len(ann.words(name)) >= bob.said, "words to the other server")
    assert are_whole(ann.words(name), his_app)
    await until(lambda: are_whole(bob.words("ann"), her_app), "all, once, in order")
    assert "reload" not in bob.heard


def are_whole(words: list[int], app: str) -> bool:
    """Return whether none is missing or came twice, and all are in the order that their server promises.

    The old manager has several connections, on which what is emitted at the same time overtakes.
    """
    return (words if app == NEW else sorted(words)) == list(range(min(words), min(words) + len(words)))
