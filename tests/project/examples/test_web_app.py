"""The web app of the examples: two processes of uvicorn, real clients, an outage and a stop."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.product.asgi.servers import Server, serve
from tests.product.asgi.test_sse import Stream

APP = "examples.web_app:app"
ANN = {"Cookie": "user=ann"}


async def publish(server: Server, event: object) -> None:
    body = {"target": "user:ann", "event": event}
    assert (await server.client.post("/publish/", json=body, headers=ANN)).status_code == 200


async def series_is(server: Server, name: str, value: str) -> None:
    for _ in range(2_000):
        if f"{name} {value}\n" in (await server.get("/metrics/")).text:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{name} is not {value}")


async def test_two_processes_serve_sockets_and_streams_over_an_outage_and_a_stop(redis_server: Any) -> None:
    url = redis_server.url
    async with (
        serve(url, app=APP, metrics="/metrics/") as here,
        serve(url, app=APP, metrics="/metrics/") as there,
        here.websocket("/events/", additional_headers=ANN) as socket,
        there.client.stream("GET", "/stream/", headers=ANN) as answer,
    ):
        stream = Stream(answer.aiter_lines(), answer.status_code, answer.headers)
        await series_is(there, "backplane_connections", "1")
        await publish(there, {"n": 1})
        await publish(here, {"n": 2})

        async def received() -> Any:
            async with asyncio.timeout(20):
                return json.loads(await socket.recv())

        assert sorted([(await received())["n"], (await received())["n"]]) == [1, 2]
        assert sorted([(await stream.message())["n"], (await stream.message())["n"]]) == [1, 2]
        redis_server.kill()
        await asyncio.to_thread(redis_server.start)
        assert (await received())["backplane"] == "gap"
        assert (await stream.next())[0] == "gap"
        await series_is(here, "backplane_ready", "1")
        await series_is(there, "backplane_ready", "1")
        await publish(here, "after")
        assert await received() == await stream.message() == "after"
        here.terminate()
        there.terminate()
        with pytest.raises(ConnectionClosed):
            await received()
        assert socket.close_code == 1001
        assert await stream.next() == ("end", None)
        await here.ends()
        await there.ends()
