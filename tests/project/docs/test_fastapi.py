"""The app of the page on FastAPI passes its test, and keeps its promises on a real server."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from backplane_core import Publisher, Target
from backplane_testservers import OwnBroker, free_port
from httpx2 import AsyncClient
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.project.docs.projects import Program, program, write_project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project("docs/how-to/fastapi.md", tmp_path)


async def test_the_pages_tests_pass(project: Path) -> None:
    async with program(project, "-m", "pytest", "-q", "test_app.py") as tests:
        assert "2 passed" in await tests.ends()


async def test_the_pages_test_fails_for_an_app_that_tells_another_user(project: Path) -> None:
    text = (project / "app.py").read_text()
    assert text.count(".publish(Target.user(user), ") == 1
    wrong = text.replace(".publish(Target.user(user), ", ".publish(Target.user('bob'), ")
    (project / "app.py").write_text(wrong)
    # A socket that gets nothing would be read for ever: it gets this behind what it should have got.
    test = (project / "test_app.py").read_text()
    reads = "            assert web.receive_json()"
    assert test.count(reads) == 1
    ends = '            client.portal.call(app.state.backplane.publish, Target.everyone(), "nothing came")\n'
    test = "from backplane_core import Target\n" + test.replace(reads, ends + reads)
    (project / "test_app.py").write_text(test)
    async with program(project, "-m", "pytest", "-q", "test_app.py") as tests:
        await tests.says("'nothing came' == {")
        await tests.says("1 failed")


DRAIN = """

@app.post("/drain")
async def drain(request: Request) -> None:
    await request.app.state.backplane.drain()
"""


@pytest.fixture
async def server(project: Path, broker: OwnBroker) -> AsyncIterator[tuple[Program, str]]:
    with (project / "app.py").open("a") as app:
        app.write(DRAIN)
    port = str(free_port())
    command = ("-m", "uvicorn", "app:app", "--port", port, "--timeout-graceful-shutdown", "10")
    async with program(project, *command, env={"BACKPLANE_URL": broker.url}) as uvicorn:
        await uvicorn.says("Uvicorn running")
        yield uvicorn, f"ws://127.0.0.1:{port}/users/ann/events"


@asynccontextmanager
async def socket(url: str) -> AsyncGenerator[ClientConnection]:
    async with connect(url, proxy=None) as websocket:
        yield websocket


async def received(websocket: ClientConnection) -> str:
    async with asyncio.timeout(20):
        return str(await websocket.recv())


async def closed(websocket: ClientConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as end:
        await received(websocket)
    assert end.value.rcvd is not None
    return end.value.rcvd.code, end.value.rcvd.reason


async def test_a_gap_closes_the_socket_with_1012_and_the_client_comes_back(
    server: tuple[Program, str], broker: OwnBroker
) -> None:
    _, url = server
    async with Publisher(broker.url) as publisher:
        async with socket(url) as websocket:
            await publisher.publish(Target.user("ann"), "before")
            assert await received(websocket) == '"before"'
            broker.restart()
            assert (await closed(websocket))[0] == 1012
        await publisher.wait_for_state("live", timeout_s=20)
        async with socket(url) as websocket:
            await publisher.publish(Target.user("ann"), "after")
            assert await received(websocket) == '"after"'


async def test_a_pod_that_drains_closes_its_sockets_with_1001(server: tuple[Program, str]) -> None:
    _, url = server
    async with socket(url) as websocket, AsyncClient(trust_env=False) as client:
        await client.post(url.replace("ws:", "http:").replace("/users/ann/events", "/drain"))
        assert (await closed(websocket))[0] == 1001


async def test_a_stopped_server_closes_its_sockets_and_ends(server: tuple[Program, str]) -> None:
    uvicorn, url = server
    async with socket(url) as websocket:
        uvicorn.process.send_signal(signal.SIGTERM)
        code, _ = await closed(websocket)
        assert code == 1001
    async with asyncio.timeout(20):
        await uvicorn.process.wait()
    assert uvicorn.process.stdout is not None
    said = (await uvicorn.process.stdout.read()).decode()
    assert "Application shutdown complete" in said
    assert "Traceback" not in said
