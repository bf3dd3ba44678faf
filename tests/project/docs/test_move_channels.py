"""The page on moving a Django Channels app: its settings, its consumer and its snippet, in two server processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from backplane_channels import BackplaneChannelLayer
from backplane_testservers import OwnBroker, free_port
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.project.docs.pages import ROOT
from tests.project.docs.projects import DEADLINE_S, program, write_project

PAGE = "docs/how-to/move-channels.md"

PROJECT = """
import os

from settings import CHANNEL_LAYERS

from django.conf import settings

CHANNEL_LAYERS["default"]["CONFIG"]["url"] = os.environ["LAYER_URL"]
settings.configure(CHANNEL_LAYERS=CHANNEL_LAYERS, SECRET_KEY="x", ALLOWED_HOSTS=["*"])
"""
APP = """
import project

from channels.routing import ProtocolTypeRouter
from consumers import ChatConsumer

application = ProtocolTypeRouter({"websocket": ChatConsumer.as_asgi()})
"""
TASK = """
import project
import tasks
"""


@asynccontextmanager
async def serve(project: Path, env: dict[str, str]) -> AsyncGenerator[ClientConnection]:
    """Run a server, and yield a socket of it."""
    port = free_port()
    async with program(project, "-m", "uvicorn", "app:application", "--port", str(port), env=env) as server:
        await server.says("Uvicorn running")
        async with asyncio.timeout(DEADLINE_S), connect(f"ws://127.0.0.1:{port}", proxy=None) as socket:
            yield socket


async def text(socket: ClientConnection) -> str:
    return str(json.loads(await socket.recv())["text"])


async def test_the_app_of_the_page_talks_and_closes_on_a_gap(tmp_path: Path, broker: OwnBroker) -> None:
    write_project(PAGE, tmp_path)
    for name, code in (("project", PROJECT), ("app", APP), ("task", TASK)):
        (tmp_path / f"{name}.py").write_text(code)
    env = {"LAYER_URL": broker.url}
    async with serve(tmp_path, env) as here, serve(tmp_path, env) as there:
        await here.send(json.dumps({"text": "hello"}))
        assert [await text(here), await text(there)] == ["hello", "hello"]
        async with program(tmp_path, "task.py", env=env) as task:
            await task.ends()
        assert [await text(here), await text(there)] == ["hi", "hi"]
        broker.kill()
        broker.restart()
        for socket in (here, there):
            with pytest.raises(ConnectionClosed) as end:
                await socket.recv()
            assert end.value.rcvd is not None
            assert end.value.rcvd.code == 4012


def test_the_one_line_that_changes_is_enough() -> None:
    diff = (ROOT / PAGE).read_text().split("```diff\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec("\n".join([line[1:] for line in diff.splitlines() if line[:1] != "-"]), names)
    layer = names["CHANNEL_LAYERS"]["default"]
    assert layer["BACKEND"] == f"backplane_channels.{BackplaneChannelLayer.__name__}"
    assert BackplaneChannelLayer(**layer["CONFIG"])
