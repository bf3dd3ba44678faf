"""Very many WebSockets in a process of their own: `python -m tests.product.logs.storm_sockets first,second from count`.

They go to the first server, and once it has died to the second, each with the last id that it got. Every client is as
little as it can be, so that the server is what is measured. It says `up` once all are attached, `back` once all have
what they missed at the second server, and after a line on its standard input what each got, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

from attrs import define, field

__all__ = ["USER", "ClientReport"]

USER: Final = "storm"
"""What its users' names begin with."""
AT_ONCE: Final = 256
"""Handshakes at a time, per process: a server's queue of those that knock has an end."""
BACK_OFF_S: Final = 0.05
CLOSE: Final = 8
TEXT: Final = 1


@define
class ClientReport:
    """What a process of clients has to say.

    Args:
        faults: What is wrong with what they got: at most 20.
        gaps: How many gaps they were notified of.
        replayed: Events that were missed and came.
        back_at: When the last one had all that it missed, Unix time.
    """

    faults: list[str]
    gaps: int
    replayed: int
    back_at: float


@define(eq=False)
class Client:
    """One socket.

    Args:
        number: Its own.
        got: What it got of its own events, and of those for everyone.
    """

    number: int
    got: dict[str, list[int]] = field(factory=lambda: {"own": list[int](), "all": list[int]()}, init=False)
    gaps: int = field(default=0, init=False)
    replayed: int = field(default=0, init=False)
    last_id: str = field(default="", init=False)
    port: int = field(default=0, init=False)

    async def visit(self, port: int, gate: asyncio.Semaphore, attached: Attached) -> None:
        """Stay at a server until it dies."""
        async with gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                await self._shake_hands(reader, writer)
            except BaseException:
                writer.transport.abort()
                raise
        try:
            while True:
                kind, payload = await read_frame(reader)
                if kind == CLOSE:
                    return
                if kind == TEXT and self._take(json.loads(payload)):
                    self.port = port
                    attached.note(self)
        finally:
            writer.transport.abort()

    async def _shake_hands(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = f"/ws?user={USER}{self.number}&last-event-id={quote(self.last_id)}"
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 101 "):
            raise ConnectionError(answer[:40])

    def _take(self, item: dict[str, Any]) -> bool:
        """Take an item; return whether it marks the end of what was missed."""
        kind = item["backplane"]
        if kind == "gap":
            self.gaps += 1
            return False
        self.last_id = item["id"]
        if kind == "caughtup":
            self.replayed += item["replayed"]
            return True
        stream, number = item["event"]
        self.got["all" if stream == "all" else "own"].append(number)
        return False

    def faults(self, own: int, everyone: int | None) -> list[str]:
        """Return what is wrong with what it got; None: more is published to everyone just now."""
        expected = {"own": [*range(own)], "all": [*range(len(self.got["all"]) if everyone is None else everyone)]}
        return [
            f"client {self.number} got {got} of {stream}, not {expected[stream]}"
            for stream, got in self.got.items()
            if got != expected[stream]
        ]


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return the kind and the payload of a frame of a server."""
    head = await reader.readexactly(2)
    size = head[1] & 127
    if size == 126:
        [size] = struct.unpack(">H", await reader.readexactly(2))
    elif size == 127:
        [size] = struct.unpack(">Q", await reader.readexactly(8))
    return head[0] & 15, await reader.readexactly(size)


@define(eq=False)
class Attached:
    """Who has all that it missed, at which server.

    Args:
        first: The first server's port.
        second: The second one's.
        count: How many clients there are.
    """

    first: int
    second: int
    count: int
    by_port: dict[int, int] = field(factory=dict[int, int], init=False)
    back_at: float = field(default=0.0, init=False)

    def note(self, client: Client) -> None:
        self.by_port[client.port] = self.by_port.get(client.port, 0) + 1
        if self.by_port[client.port] == self.count:
            self.back_at = time.time()
            say("up" if client.port == self.first else "back")


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 -- to the process that started this one


async def run(client: Client, gate: asyncio.Semaphore, attached: Attached) -> None:
    """Stay at the first server until it dies, then at the second."""
    port = attached.first
    while True:
        try:
            await client.visit(port, gate, attached)
        except (OSError, EOFError):
            if client.port:  # it was there, and has died; until then it is asked again
                port = attached.second
        await asyncio.sleep(BACK_OFF_S)


async def main(ports: str, begin: str, count: str) -> None:
    first, second = map(int, ports.split(","))
    clients = [Client(number) for number in range(int(begin), int(begin) + int(count))]
    attached, gate = Attached(first, second, len(clients)), asyncio.Semaphore(AT_ONCE)
    tasks = [asyncio.create_task(run(client, gate, attached)) for client in clients]
    while line := await asyncio.to_thread(sys.stdin.readline):
        own, everyone = json.loads(line)
        say(json.dumps(report(clients, attached, own, everyone)))
    for task in tasks:
        task.cancel()


def report(clients: Sequence[Client], attached: Attached, own: int, everyone: int | None) -> dict[str, Any]:
    faults = [fault for client in clients for fault in client.faults(own, everyone)]
    return {
        "faults": [*faults[:20], *([f"{len(faults)} in all"] if len(faults) > 20 else [])],
        "gaps": sum([client.gaps for client in clients]),
        "replayed": sum([client.replayed for client in clients]),
        "back_at": attached.back_at,
    }


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
