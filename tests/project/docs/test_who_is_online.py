"""The administrators' table of the page shows the connections of every process."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

from backplane_testservers import Broker, free_port
from httpx2 import AsyncClient
from websockets.asyncio.client import connect

from tests.project.docs.projects import program, write_project
from tests.support.waiting import DEADLINE_S


async def data(lines: AsyncIterator[str]) -> object:
    """Return the next event's data."""
    async with asyncio.timeout(DEADLINE_S):
        while not (line := await anext(lines)).startswith("data: "):
            pass
    return json.loads(line.removeprefix("data: "))


async def test_the_table_lists_the_sockets_of_all_processes(tmp_path: Path, shared_broker: Broker) -> None:
    project = write_project("docs/how-to/who-is-online.md", tmp_path)
    ports = [free_port() for _ in range(2)]
    async with AsyncExitStack() as stack:
        for port in ports:
            env = {"BACKPLANE_URL": shared_broker.url, "BACKPLANE_CHANNEL": f"online-{os.getpid()}"}
            env["BACKPLANE_POD_NAME"] = f"<web>-{port}"
            arguments = (
                "-m",
                "uvicorn",
                "app:app",
                "--port",
                str(port),
                "--ws",
                "backplane_asgi.uvicorn:PreparedProtocol",
            )
            server = await stack.enter_async_context(program(project, *arguments, env=env))
            await server.says("Uvicorn running")
        client = await stack.enter_async_context(AsyncClient(timeout=DEADLINE_S))
        online = client.stream("GET", f"http://127.0.0.1:{ports[1]}/admin/online")
        lines = (await stack.enter_async_context(online)).aiter_lines()
        assert await data(lines) == {"all": {}}
        for port in ports:
            await stack.enter_async_context(connect(f"ws://127.0.0.1:{port}/users/ann/events", proxy=None))
        await stack.enter_async_context(connect(f"ws://127.0.0.1:{ports[0]}/users/bob/events", proxy=None))
        assert await data(lines) == {"key": "ann", "shown": {"name": "ann"}}
        assert await data(lines) == {"key": "bob", "shown": {"name": "bob"}}
        assert "EventSource" in (await client.get(f"http://127.0.0.1:{ports[0]}/admin")).text
        page = ""
        for _ in range(10):  # a process that starts up may miss the first question
            page = (await client.get(f"http://127.0.0.1:{ports[0]}/admin/connections")).text
            if "<p>3 connections</p>" in page:
                break
        assert "<p>3 connections</p>" in page
        assert all(f"<td>&lt;web&gt;-{port}</td>" in page for port in ports)
