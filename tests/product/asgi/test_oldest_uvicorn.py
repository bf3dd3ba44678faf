"""The oldest uvicorn that the page allows: what is missing there is said once, and clients are served all the same."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.product.asgi.servers import PREPARED, PREPARED_HTTP, serve
from tests.product.asgi.test_sse import stream
from tests.product.asgi.test_websocket import closed, receive

pytestmark = pytest.mark.slow  # it installs a version of its own

OLDEST = ("uvicorn==0.38.0", "websockets==15.0")


async def test_sockets_and_streams_are_served_on_the_oldest_uvicorn(tmp_path: Path) -> None:
    uv = shutil.which("uv")
    assert uv is not None
    command = ("pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path), *OLDEST)
    installing = await asyncio.create_subprocess_exec(uv, *command)
    assert await installing.wait() == 0
    async with (
        serve(ws=PREPARED, http=PREPARED_HTTP, PYTHONPATH=str(tmp_path)) as server,
        server.websocket("/ws?user=ann") as ann,
        stream(server, "/sse?user=ann") as other,
    ):
        await server.metric_is("backplane_connections", 2)
        await ann.send('{"backplane":"ping"}')
        assert await receive(ann) == {"backplane": "pong"}
        for number in range(3):
            assert await server.publish("user:ann", number) == 2
        assert [await receive(ann) for _ in range(3)] == [0, 1, 2]
        assert [await other.message() for _ in range(3)] == [0, 1, 2]
        assert server.log.count("frames are not shared") >= 1
        server.terminate()
        assert (await closed(ann))[0] == 1001
        assert await other.closed() == 1001
        assert await other.next() == ("end", None)
        await server.ends()
