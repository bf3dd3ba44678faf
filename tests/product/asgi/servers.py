"""Starts the service under uvicorn, in a process of its own, and speaks with it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import httpx2
import websockets
from attrs import define

from tests.support.waiting import until

__all__ = ["HTTP_PROTOCOLS", "PREPARED", "PREPARED_HTTP", "Server", "serve"]

ROOT: Final = Path(__file__).parents[3]
PREPARED: Final = "backplane_asgi.uvicorn:PreparedProtocol"
PREPARED_HTTP: Final = "backplane_asgi.uvicorn:PreparedHttpProtocol"
HTTP_PROTOCOLS: Final = (
    PREPARED_HTTP,
    "tests.product.asgi.on_h11:PreparedHttpProtocol",
    "h11",
    *(("httptools",) if find_spec("httptools") is not None else ()),
)
UNFINISHED: Final = "ERROR:    ASGI callable returned without completing response."
"""What uvicorn logs of a stream that is given up: ASGI has no other way to end one whose client does not read."""


@define
class Server:
    """A running server.

    Args:
        port: Where it listens.
        process: What runs there.
        log_path: What it writes.
        client: Asks it over HTTP.
        metrics: The path of its metrics.
    """

    port: int
    process: asyncio.subprocess.Process
    log_path: Path
    client: httpx2.AsyncClient
    metrics: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def websocket(self, path: str, **options: Any) -> websockets.connect:
        return websockets.connect(f"ws://127.0.0.1:{self.port}{path}", proxy=None, **options)

    def raw(self) -> AbstractAsyncContextManager[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        return raw_connection(self.port)

    async def get(self, path: str, **options: Any) -> httpx2.Response:
        return await self.client.get(path, **options)

    async def publish(self, target: str | Sequence[str], event: object, user: str = "ann") -> int:
        """Publish through the server; return how many of its connections took it."""
        body = {"target": target, "event": event}
        answer = await self.client.post("/publish", json=body, headers={"Authorization": f"Bearer {user}"})
        assert answer.status_code == 200, answer.text
        return int(answer.json()["delivered"])

    async def metric(self, name: str) -> float:
        """Return one series of the metrics."""
        text = (await self.get(self.metrics)).text
        return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name} "))

    async def metric_is(self, name: str, value: float) -> None:
        for _ in range(3_000):
            if await self.metric(name) == value:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"{name} is {await self.metric(name)}, not {value}")

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def ends(self, within_s: float = 30) -> None:
        async with asyncio.timeout(within_s):
            assert await self.process.wait() in {0, -signal.SIGTERM}, self.log


@asynccontextmanager
async def raw_connection(port: int) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect with a small buffer, so that it is soon full."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.setblocking(False)  # noqa: FBT003 -- the socket's own argument
    await asyncio.get_running_loop().sock_connect(line, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=line, limit=2048)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


@asynccontextmanager
async def serve(
    url: str | None = None,
    *options: str,
    ws: str = PREPARED,
    http: str = PREPARED_HTTP,
    app: str = "tests.product.asgi.service:app",
    metrics: str = "/metrics",
    **environment: str,
) -> AsyncGenerator[Server]:
    """Run the service until the block ends; a traceback in its log fails the test."""
    with socket.socket() as listener, tempfile.TemporaryDirectory() as folder:
        listener.bind(("127.0.0.1", 0))
        listener.listen(2_048)
        log_path = Path(folder) / "log"
        env = {name: value for name, value in os.environ.items() if not name.startswith("BACKPLANE_")}
        env |= environment | ({} if url is None else {"BACKPLANE_URL": url})
        with log_path.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "uvicorn", app, "--fd", str(listener.fileno()), "--ws", ws, "--http", http, *options),
                pass_fds=[listener.fileno()],
                stdout=log,
                stderr=log,
                env=env,
                cwd=ROOT,
            )
        port = listener.getsockname()[1]
        listener.close()  # so that nobody waits for a server that has ended
        # Without a TLS context, which takes 50 ms to make.
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=False) as client:
            server = Server(port, process, log_path, client, metrics)
            try:
                await until(lambda: "startup complete" in server.log or process.returncode is not None, "it is up")
                assert process.returncode is None, server.log
                if url is not None:  # it starts without its broker, and a client that comes first is owed a gap
                    await server.metric_is("backplane_ready", 1)
                yield server
            finally:
                await stop(server)
        print(server.log)  # noqa: T201 -- shown where the test fails
        assert "Traceback" not in server.log, server.log
        assert "ERROR" not in server.log.replace(UNFINISHED if http in {"h11", "httptools"} else "-", ""), server.log


async def stop(server: Server) -> None:
    """End a server as an orchestrator does; one that does not end fails the test."""
    if server.process.returncode is None:
        server.terminate()
        try:
            await server.ends()
        except TimeoutError:
            server.process.kill()
            await server.process.wait()
            raise AssertionError(f"it did not end:\n{server.log}") from None
