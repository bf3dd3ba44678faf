"""Starts the service under uvicorn, in a process of its own, and speaks with it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
import websockets
from attrs import define

__all__ = ["HTTP_PROTOCOLS", "PREPARED", "PREPARED_HTTP", "Server", "need", "serve", "serve_by"]

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


def need(*modules: str) -> None:
    """Skip the test where a framework or server is not installed; fail it where CI says that it has to be."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing and os.environ.get("BACKPLANE_REQUIRE_FRAMEWORKS") == "1":
        pytest.fail(f"BACKPLANE_REQUIRE_FRAMEWORKS=1, but there is no {missing[0]}", pytrace=False)
    if missing:
        pytest.skip(f"no {missing[0]}: it comes with `uv sync --group frameworks`")


@define
class Server:
    """A running server.

    Args:
        port: Where it listens.
        process: What runs there.
        log_path: What it writes.
        client: Asks it over HTTP.
        metrics: The path of its metrics.
        slash: What follows the path of its endpoint for publishing.
    """

    port: int
    process: asyncio.subprocess.Process
    log_path: Path
    client: httpx2.AsyncClient
    metrics: str
    slash: str

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
        answer = await self.client.post(f"/publish{self.slash}", json=body, headers={"Authorization": f"Bearer {user}"})
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

    async def is_up(self) -> None:
        """Return once it answers; one that has ended fails the test."""
        for _ in range(3_000):
            assert self.process.returncode is None, self.log
            with suppress(httpx2.TransportError):
                await self.get(self.metrics)
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"it does not answer: {self.log}")

    async def says(self, text: str) -> None:
        """Return once its log has this; a server that has ended fails the test."""
        for _ in range(6_000):
            assert self.process.returncode is None, self.log
            if text in self.log:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"it does not say {text!r}: {self.log}")

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
    listener: socket.socket | None = None,
    **environment: str,
) -> AsyncGenerator[Server]:
    """Run the service under uvicorn until the block ends; a traceback in its log fails the test."""
    command = ("-m", "uvicorn", app, "--fd", "{fd}", "--ws", ws, "--http", http, "--log-level", "info", *options)
    allowed = (UNFINISHED,) if http in {"h11", "httptools"} else ()
    async with serve_by(command, url, metrics=metrics, allowed=allowed, listener=listener, **environment) as server:
        yield server


@asynccontextmanager
async def serve_by(
    command: Sequence[str],
    url: str | None = None,
    *,
    metrics: str = "/metrics",
    slash: str = "",
    allowed: Sequence[str] = (),
    listener: socket.socket | None = None,
    **environment: str,
) -> AsyncGenerator[Server]:
    """Run a server until the block ends; a traceback in its log fails the test.

    Args:
        command: Of Python; `{fd}` stands for its listening socket, `{port}` for its port, if it listens by itself.
        url: The broker's; None: in memory.
        metrics: The path of its metrics.
        slash: What follows the paths of its endpoints.
        allowed: What may stand in its log though it looks like an error.
        listener: Where it listens, among others perhaps, and which stays open when it has ended; None: one of its own.
        environment: More variables.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        is_shared = listener is not None
        if listener is None:
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        has_own = "{port}" in " ".join(command)
        if has_own:
            listener.close()
        else:
            listener.listen(2_048)
        log_path = Path(folder) / "log"
        env = {name: value for name, value in os.environ.items() if not name.startswith("BACKPLANE_")}
        env |= environment | ({} if url is None else {"BACKPLANE_URL": url})
        with log_path.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *[part.replace("{fd}", str(listener.fileno())).replace("{port}", str(port)) for part in command],
                pass_fds=[] if has_own else [listener.fileno()],
                stdout=log,
                stderr=log,
                env=env,
                cwd=ROOT,
            )
        if not is_shared:
            listener.close()  # so that nobody waits for a server that has ended
        # Without a TLS context, which takes 50 ms to make.
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=False) as client:
            server = Server(port, process, log_path, client, metrics + slash, slash)
            try:
                if is_shared:  # another one may answer there
                    await server.says("Application startup complete")
                else:
                    await server.is_up()
                if url is not None and not is_shared:  # a client that comes before its broker does is owed a gap
                    await server.metric_is("backplane_ready", 1)
                yield server
            finally:
                await stop(server)
        print(server.log)  # noqa: T201 -- shown where the test fails
        text = server.log
        for line in allowed:
            text = text.replace(line, "")
        assert "Traceback" not in text, server.log
        assert "ERROR" not in text, server.log


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
