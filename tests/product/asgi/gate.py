"""A reverse proxy that lets sockets, streams, both or neither through: `Gate`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Final

from attrs import define, field
from backplane_testservers.streams import serve

__all__ = ["Gate", "gate_before"]

BAD_GATEWAY: Final = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@define
class Gate:
    """What it does with each connection's first request.

    Args:
        server_port: What is behind it.
        closed_to: `socket`, `stream`: what it answers with a 502, as a proxy does in a deploy.
    """

    server_port: int
    port: int = 0
    closed_to: set[str] = field(factory=set[str])
    turned_away: list[str] = field(factory=list[str])
    """What it answered with a 502, in order."""
    _passing: set[asyncio.StreamWriter] = field(factory=set[asyncio.StreamWriter])

    def cut(self, *closed_to: str) -> None:
        """Close it to these, and to nothing else, and cut all that is passing."""
        self.closed_to = set(closed_to)
        self.turned_away.clear()
        for writer in self._passing:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        head = await reader.readuntil(b"\r\n\r\n")
        kind = "socket" if b"upgrade: websocket" in head.lower() else "stream" if b"GET /sse" in head else "other"
        if kind in self.closed_to:
            self.turned_away.append(kind)
            writer.write(BAD_GATEWAY)
            return
        there, here = await asyncio.open_connection("127.0.0.1", self.server_port)
        # One request per connection, so that each is looked at.
        here.write(head if kind == "socket" else re.sub(rb"(?i)connection: keep-alive", b"Connection: close", head))
        self._passing |= {writer}
        try:
            ways = {asyncio.create_task(copy(reader, here)), asyncio.create_task(copy(there, writer))}
            _, others = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for other in others:
                other.cancel()
            await asyncio.wait(ways)
        finally:
            self._passing -= {writer}
            here.transport.abort()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def gate_before(server_port: int) -> AsyncGenerator[Gate]:
    """Run a gate for the length of the block."""
    gate = Gate(server_port)
    async with serve(gate.serve) as port:
        gate.port = port
        yield gate
