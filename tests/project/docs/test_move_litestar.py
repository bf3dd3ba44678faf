"""The app of the page on Litestar, in two processes over each broker: it keeps what the page says of a restart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from backplane_core import Publisher, Target
from backplane_testservers import OwnBroker, free_port
from httpx2 import AsyncClient
from websockets.asyncio.client import ClientConnection, connect

from tests.project.docs.projects import program, write_project
from tests.support.waiting import until

SAY = "http://127.0.0.1:{}/say/chat"
RELOAD = {"type": "reload"}
EVENTS = "ws://127.0.0.1:{}/events/chat"


@pytest.fixture
async def ports(tmp_path: Path, broker: OwnBroker) -> AsyncIterator[tuple[int, int]]:
    """Where the two processes listen."""
    project = write_project("docs/how-to/move-litestar.md", tmp_path)
    ports = free_port(), free_port()
    async with AsyncExitStack() as stack:
        for port in ports:
            command = ("-m", "uvicorn", "app:app", "--port", str(port))
            running = program(project, *command, env={"BACKPLANE_URL": broker.url})
            await (await stack.enter_async_context(running)).says("Uvicorn running")
        yield ports


async def test_what_one_process_says_the_others_clients_hear_and_a_restart_of_the_broker_is_reported(
    ports: tuple[int, int], broker: OwnBroker
) -> None:
    here, there = ports
    heard: list[dict[str, Any]] = []

    async def listen(socket: ClientConnection) -> None:
        nonlocal heard
        async for message in socket:
            heard += [json.loads(message)]

    async with (
        connect(EVENTS.format(there), proxy=None) as socket,
        AsyncClient(trust_env=False) as client,
        Publisher(broker.url) as worker,
    ):

        async def say_until_heard(what: str) -> None:
            """Say it again and again: the socket is accepted before it is subscribed, and links come back in turn."""
            async with asyncio.timeout(60):
                while {"say": what} not in heard:
                    assert (await client.post(SAY.format(here), json={"say": what})).status_code == 201
                    await asyncio.sleep(0.02)

        listening = asyncio.create_task(listen(socket))
        await say_until_heard("hello")
        await worker.publish(Target("litestar_channel", "chat"), {"from": "a worker"})
        await until(lambda: {"from": "a worker"} in heard, "a worker's message")
        assert RELOAD not in heard
        broker.restart()
        await until(lambda: RELOAD in heard, "the gap")
        await say_until_heard("hello again")
        listening.cancel()
