"""The chat of the examples on servers of its own, and a page that goes on through their ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from attrs import define, field
from backplane_testservers import free_port
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from tests.support.waiting import DEADLINE_S, until

__all__ = ["SERVERS", "ChatServer", "Page", "serve"]

ROOT: Final = Path(__file__).parents[3]
APP: Final = "examples.channels_chat"
SERVERS: Final[Mapping[str, Sequence[str]]] = {
    "uvicorn": ("-m", "uvicorn", f"{APP}:application", "--port", "{port}", "--log-level", "warning"),
    "daphne": ("-m", "daphne", "-p", "{port}", f"{APP}:application"),
    "runserver": ("-m", APP, "runserver", "{port}"),
}
"""How the chat is served."""


@define
class ChatServer:
    """A server process."""

    port: int
    process: asyncio.subprocess.Process

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/chat"

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop it as a deploy does, and wait for it."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
        try:
            async with asyncio.timeout(DEADLINE_S):
                await self.process.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            await self.process.wait()


@asynccontextmanager
async def serve(broker_url: str, log: Path, server: str = "uvicorn", port: int = 0) -> AsyncGenerator[ChatServer]:
    """Run a server, and yield it once it serves; what it writes is in the log."""
    port = port or free_port()
    command = [part.format(port=port) for part in SERVERS[server]]
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            cwd=ROOT,
            env={**os.environ, "CHAT_URL": broker_url, "CHAT_DEBUG": "1" if server == "runserver" else ""},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,
        )
    running = ChatServer(port, process)
    try:
        await _serves(running, log)
        yield running
    finally:
        await running.stop()


async def _serves(server: ChatServer, log: Path) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            assert server.process.returncode is None, await asyncio.to_thread(log.read_text)
            try:
                async with connect(server.url, proxy=None):
                    return
            except (OSError, WebSocketException):
                await asyncio.sleep(0.05)


@define
class Page:
    """A page that is in rooms. It comes back when its socket ends, and notes everything.

    Args:
        url: Of the chat; may be changed to that of another server.
        rooms: Where it is.
    """

    url: str
    rooms: list[str]
    items: list[Any] = field(factory=list[Any])
    """What it was sent: texts, and "gap" where it was to reload; also where its socket had ended."""
    opened: int = 0
    codes: list[int | None] = field(factory=list["int | None"])
    _socket: ClientConnection | None = None

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Page]:
        """Keep it open."""
        running = asyncio.ensure_future(self._run())
        try:
            await until(lambda: running.done() or self.opened, "the page is in its rooms")
            yield self
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    async def say(self, room: str, text: object) -> None:
        """Say something."""
        await self.send({"say": text, "room": room})

    async def send(self, message: object) -> None:
        """Send a message as it is."""
        assert self._socket is not None
        await self._socket.send(json.dumps(message))

    def texts(self, room: str) -> list[Any]:
        """Return what was said in a room."""
        return [item[1] for item in self.items if isinstance(item, tuple) and item[0] == room]

    async def _run(self) -> None:
        while True:
            try:
                async with connect(self.url, proxy=None, open_timeout=DEADLINE_S) as self._socket:
                    for room in self.rooms:
                        await self.send({"join": room})
                    await self._read(self._socket)
            except ConnectionClosed as end:
                self.codes.append(None if end.rcvd is None else end.rcvd.code)
                self.items.append("gap")  # it reloads when it is back
            except (OSError, WebSocketException):  # the server is away
                await asyncio.sleep(0.05)

    async def _read(self, socket: ClientConnection) -> None:
        joined = 0
        while True:
            message = json.loads(await socket.recv())
            if "text" in message:
                self.items.append((message["room"], message["text"]))
            elif "reload" in message:
                self.items.append("gap")
            elif "joined" in message:
                joined += 1
                self.opened += joined == len(self.rooms)
            elif "left" in message:
                self.items.append("left")
