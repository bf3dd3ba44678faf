"""pusher-js and laravel-echo, unchanged, in a process of Node, and the endpoint of their app."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from attrs import define

from tests.product.server.pushers import KEY, sdk
from tests.support.node_clients import NodeClients, node_clients
from tests.support.waiting import until

__all__ = ["SOURCE", "Clients", "clients"]

SOURCE = Path(__file__).parent / "pusher_js"


@define(eq=False)
class Clients:
    """The clients of one process, and the endpoint that authorizes them."""

    node: NodeClients
    auth: str

    async def do(self, command: str, client: str, **more: Any) -> None:
        """Let a client do something."""
        await self.node.do(command, client, **more)

    def all_of(self, client: str, **wanted: Any) -> list[dict[str, Any]]:
        """Return what a client has said that has these members."""
        return self.node.all_of(client, **wanted)

    async def has(self, client: str, count: int = 1, **wanted: Any) -> dict[str, Any]:
        """Return the last of so many things that a client says with these members."""
        return await self.node.has(client, count, **wanted)

    async def open(self, client: str, port: int) -> None:
        """Connect a client, and wait until it is."""
        await self.do("open", client, port=port, key=KEY, auth=self.auth)
        await self.has(client, state="connected")
        await until(lambda: any("socket" in it for it in self.all_of(client)), f"{client} knows its socket")

    def socket_of(self, client: str) -> str:
        """Return the id of a client's socket."""
        return str([it["socket"] for it in self.all_of(client) if "socket" in it][-1])


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
    try:
        async with node_clients(folder / "clients.mjs") as node:
            yield Clients(node, auth)
    finally:
        endpoint.close()
        await endpoint.wait_closed()
