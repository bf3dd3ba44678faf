"""pusher-js and laravel-echo, unchanged, in a process of Node, and the endpoint of their app."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from attrs import define, field

from tests.product.server.pushers import KEY, sdk
from tests.support.waiting import DEADLINE_S, until

__all__ = ["SOURCE", "Clients", "clients"]

SOURCE = Path(__file__).parent / "pusher_js"


@define(eq=False)
class Clients:
    """The clients of one process: what each has said, in order."""

    process: asyncio.subprocess.Process
    auth: str
    said: list[dict[str, Any]] = field(factory=list[dict[str, Any]])

    async def do(self, command: str, client: str, **more: Any) -> None:
        """Let a client do something."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": command, "client": client, **more}).encode() + b"\n")
        await self.process.stdin.drain()

    async def open(self, client: str, port: int) -> None:
        """Connect a client, and wait until it is."""
        await self.do("open", client, port=port, key=KEY, auth=self.auth)
        await self.has(client, state="connected")
        await until(lambda: any("socket" in it for it in self.all_of(client)), f"{client} knows its socket")

    def all_of(self, client: str, **wanted: Any) -> list[dict[str, Any]]:
        """Return what a client has said that has these members."""
        return [it for it in self.said if it["client"] == client and wanted.items() <= it.items()]

    def socket_of(self, client: str) -> str:
        """Return the id of a client's socket."""
        return str([it["socket"] for it in self.said if it["client"] == client and "socket" in it][-1])

    async def has(self, client: str, count: int = 1, **wanted: Any) -> dict[str, Any]:
        """Return the last of so many things that a client says with these members."""

        def has_come() -> bool:
            return len(self.all_of(client, **wanted)) >= count

        try:
            await until(has_come, f"{client}: {count} of {wanted}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it said {self.all_of(client)}") from None
        return self.all_of(client, **wanted)[count - 1]

    async def read(self) -> None:
        """Note what they say, until the process ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.said.append(json.loads(line))


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request as an app's endpoint does: `bob-1` and `bob-2` are tabs of the user `bob`."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    size = next(line.partition(":")[2] for line in head.lower().split("\r\n") if line.startswith("content-length:"))
    asked = {name: values[0] for name, values in parse_qs((await reader.readexactly(int(size))).decode()).items()}
    user = asked["user"].partition("-")[0]
    server = sdk()
    if head.startswith("POST /user"):
        said = server.authenticate_user(asked["socket_id"], {"id": user})
    else:
        name = asked["channel_name"]
        shown = {"user_id": user, "user_info": {"id": user}} if name.startswith("presence-") else None
        said = server.authenticate(name, asked["socket_id"], shown)
    body = json.dumps(said).encode()
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    await writer.drain()
    writer.close()


@asynccontextmanager
async def clients(folder: Path) -> AsyncGenerator[Clients]:
    """Run a process for clients, and the endpoint of their app."""
    endpoint = await asyncio.start_server(_answer, "127.0.0.1", 0)
    auth = f"http://127.0.0.1:{endpoint.sockets[0].getsockname()[1]}"
    process = await asyncio.create_subprocess_exec(
        *("node", str(folder / "clients.mjs")), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    made = Clients(process, auth)
    reading = asyncio.create_task(made.read())
    try:
        await until(lambda: made.said, "the process is there")
        yield made
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(DEADLINE_S):
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
        await reading
        endpoint.close()
        await endpoint.wait_closed()
