"""The endpoints in each framework and under each server that the pages name, with real clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest
from attrs import frozen
from backplane_core import Target, connect
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.product.asgi.servers import PREPARED, PREPARED_HTTP, Server, need, serve_by

ANN = Target.user("ann")
SERVICE = "tests.product.asgi.service:app"


def uvicorn(app: str, ws: str = PREPARED, http: str = PREPARED_HTTP) -> tuple[str, ...]:
    return ("-m", "uvicorn", app, "--fd", "{fd}", "--ws", ws, "--http", http)


@frozen
class Way:
    """An app under a server.

    Args:
        command: Of Python.
        needs: What has to be installed.
        code: With which a socket is closed when the server stops, as its client sees it.
        has_page: Whether the app has a page of its own.
        slash: What follows the path of an endpoint: a mount of FastAPI takes no path without.
        allowed: What the server logs by itself when it stops.
    """

    command: Sequence[str]
    needs: Sequence[str] = ()
    code: int = 1001
    has_page: bool = False
    slash: str = ""
    allowed: Sequence[str] = ()


def framework(name: str) -> Way:
    needs = () if name == "django" else (name,)
    slash = "/" if name == "fastapi" else ""
    return Way(uvicorn(f"tests.product.asgi.mounts.with_{name}:app"), needs, has_page=True, slash=slash)


WAYS = {
    **{name: framework(name) for name in ("starlette", "fastapi", "litestar", "quart", "django")},
    "uvicorn, sans-io, h11": Way(uvicorn(SERVICE, "websockets-sansio", "h11")),
    "uvicorn, wsproto, httptools": Way(uvicorn(SERVICE, "wsproto", "httptools"), ("wsproto", "httptools")),
    "hypercorn": Way(("-m", "hypercorn", SERVICE, "--bind", "fd://{fd}", "--workers", "0"), ("hypercorn",)),
    "granian": Way(
        ("-m", "granian", SERVICE, "--interface", "asgi", "--loop", "asyncio", "--port", "{port}"), ("granian",)
    ),
    "daphne": Way(
        ("-m", "daphne", "tests.product.asgi.mounts.with_daphne:app", "--fd", "{fd}"), ("daphne",), code=4001
    ),
}


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest) -> Way:
    way = WAYS[request.param]
    need(*way.needs)
    return way


@asynccontextmanager
async def listening(server: Server, slash: str) -> AsyncGenerator[tuple[ClientConnection, asyncio.StreamReader]]:
    """Connect by WebSocket and by SSE; yield both once they are attached."""
    async with server.websocket(f"/ws{slash}?user=ann") as socket, server.raw() as (reader, writer):
        writer.write(f"GET /sse{slash}?user=ann HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        async with asyncio.timeout(20):
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            await reader.readuntil(b": \n\n")
        await server.metric_is("backplane_connections", 2)
        yield socket, reader


async def test_events_of_every_pod_arrive_and_the_server_ends_in_order(way: Way, redis_url: str, channel: str) -> None:
    async with (
        connect(redis_url, channel=channel) as other,
        serve_by(way.command, redis_url, slash=way.slash, allowed=way.allowed, BACKPLANE_CHANNEL=channel) as server,
    ):
        if way.has_page:
            assert (await server.get("/page")).text == "a page"
        assert (await server.get("/health/live")).json() == {"live": True}
        assert (await server.get(f"/sse{way.slash}")).status_code == 401
        async with listening(server, way.slash) as (socket, reader):
            for number in range(5):
                await other.publish(ANN, {"from": "another pod", "n": number})
                assert await server.publish("user:ann", {"from": "here", "n": number}) == 2
            received = [json.loads(await asyncio.wait_for(socket.recv(), 20)) for _ in range(10)]
            streamed = [await data(reader) for _ in range(10)]
            for got in (received, streamed):
                for whence in ("another pod", "here"):
                    assert [item["n"] for item in got if item["from"] == whence] == list(range(5))
            server.terminate()
            with pytest.raises(ConnectionClosed) as closed:
                await asyncio.wait_for(socket.recv(), 20)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == way.code
            async with asyncio.timeout(20):
                await reader.read(-1)  # the stream ends
        await server.ends()


async def data(reader: asyncio.StreamReader) -> dict[str, object]:
    async with asyncio.timeout(20):
        while not (line := await reader.readline()).startswith(b"data: "):
            assert line, "the stream has ended"
    value: dict[str, object] = json.loads(line[6:])
    return value
