"""A stand-in for a Redis server, a proxy in front of one, or a compatible server: `ScriptedRedis`.

    answers = {"CLIENT SETINFO": HANG_UP, "HELLO": error("ERR unknown command 'hello'")}
    with ScriptedRedis(answers) as server:
        async with connect(server.url) as backplane:
            ...
    assert server.count("HELLO") == 1

What the table leaves out is answered as Redis does: subscriptions are real, and PUBLISH reaches the other connections.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from typing import Final

from backplane_testservers.scripted import Answer, ScriptedConnection, ScriptedServer

__all__ = ["ScriptedRedis", "array", "bulk", "error", "push"]

NULL: Final = b"$-1\r\n"
PLAIN: Final[Mapping[str, bytes]] = {
    **dict.fromkeys(("AUTH", "CLIENT", "SELECT", "READONLY"), b"+OK\r\n"),
    "PING": b"+PONG\r\n",
    "EXISTS": b":0\r\n",
}
WHILE_SUBSCRIBED: Final = {
    *("SUBSCRIBE", "UNSUBSCRIBE", "SSUBSCRIBE", "SUNSUBSCRIBE", "PSUBSCRIBE", "PUNSUBSCRIBE", "PING", "QUIT", "RESET")
}
"""All that a subscribed connection may send in RESP2."""


def error(text: str) -> bytes:
    """Return an error reply."""
    return f"-{text}\r\n".encode()


def bulk(part: bytes | int | None) -> bytes:
    """Return a bulk string, or a number, or nothing, as RESP has them."""
    if part is None:
        return NULL
    return b":%d\r\n" % part if isinstance(part, int) else b"$%d\r\n%b\r\n" % (len(part), part)


def array(*parts: bytes | int | None, mark: bytes = b"*") -> bytes:
    """Return an array; another mark makes it a push (`>`) or a set (`~`)."""
    return mark + b"%d\r\n" % len(parts) + b"".join([bulk(part) for part in parts])


def push(*parts: bytes | int | None) -> bytes:
    """Return a push of RESP3."""
    return array(*parts, mark=b">")


class ScriptedRedis(ScriptedServer):
    """A server that speaks RESP2, and RESP3 to who says HELLO 3.

    Args:
        answers: As in `ScriptedServer`: by command, such as "HELLO", "CLIENT SETNAME", "PUBLISH".
        server: What HELLO calls it.
        version: What HELLO says.
        mode: `standalone`, `cluster` or `sentinel`.
        role: `master`, `replica`, or what a compatible server says; all but `replica` are primaries. May change.
        greeting: As in `ScriptedServer`.
        tls: As in `ScriptedServer`.
    """

    scheme = "redis"

    def __init__(
        self,
        answers: Mapping[str, Answer | Sequence[Answer]] | None = None,
        *,
        server: str = "redis",
        version: str = "7.4.0",
        mode: str = "standalone",
        role: str = "master",
        greeting: bytes | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(answers, greeting=greeting, tls=tls)
        self.server = server
        self.version = version
        self.mode = mode
        self.role = role

    async def read_command(self, reader: asyncio.StreamReader) -> tuple[bytes, ...] | None:
        line = await reader.readline()
        if not line:
            return None
        if not line.startswith(b"*"):  # an inline command, or another protocol
            return tuple(line.split())
        words: list[bytes] = []
        for _ in range(int(line[1:])):
            size = int((await reader.readline())[1:])
            words.append((await reader.readexactly(size + 2))[:-2])
        return tuple(words)

    def usual(self, connection: ScriptedConnection, words: tuple[bytes, ...]) -> bytes:
        name, operands = words[0].upper().decode("latin-1"), words[1:]
        if connection.channels and not connection.is_resp3 and name not in WHILE_SUBSCRIBED:
            return error(f"ERR Can't execute '{name.lower()}': only (P|S)SUBSCRIBE and the like are allowed here")
        answer = PLAIN.get(name)
        match name:
            case "HELLO":
                answer = self._hello(connection, operands)
            case "ROLE":
                is_master = self.role != "replica"
                answer = b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n" if is_master else array(b"slave", b"127.0.0.1", 6379)
            case "SUBSCRIBE" | "SSUBSCRIBE":
                answer = b"".join([self.subscribe(connection, name, channel) for channel in operands])
            case "UNSUBSCRIBE" | "SUNSUBSCRIBE":
                answer = b"".join([self.unsubscribe(connection, name, channel) for channel in operands])
            case "PUBLISH" | "SPUBLISH":
                answer = self.publish(name, operands[0], operands[1])
            case _:
                pass
        return answer or error(f"ERR unknown command '{name.lower()}', with args beginning with: ")

    def _hello(self, connection: ScriptedConnection, operands: Sequence[bytes]) -> bytes:
        if operands:
            connection.is_resp3 = operands[0] == b"3"
        fields: dict[bytes, bytes | int] = {
            b"server": self.server.encode(),
            b"version": self.version.encode(),
            b"proto": 3 if connection.is_resp3 else 2,
            b"id": connection.number + 1,
            b"mode": self.mode.encode(),
            b"role": self.role.encode(),
        }
        parts = b"".join([bulk(part) for pair in fields.items() for part in pair])
        head = b"%%%d\r\n" % len(fields) if connection.is_resp3 else b"*%d\r\n" % (2 * len(fields))
        return head + parts

    def subscribe(self, connection: ScriptedConnection, name: str, channel: bytes) -> bytes:
        """Subscribe one channel and return the confirmation."""
        connection.channels[channel] = channel
        return self.out(connection, name.lower().encode(), channel, len(connection.channels))

    def unsubscribe(self, connection: ScriptedConnection, name: str, channel: bytes) -> bytes:
        """Unsubscribe one channel and return the confirmation."""
        connection.channels.pop(channel, None)
        return self.out(connection, name.lower().encode(), channel, len(connection.channels))

    def publish(self, name: str, channel: bytes, payload: bytes) -> bytes:
        """Deliver to every connection that is subscribed, in front of the answer; return that."""
        kind = b"smessage" if name == "SPUBLISH" else b"message"
        hearers = [one for one in self.connections if channel in one.channels]
        for hearer in hearers:
            hearer.write(self.out(hearer, kind, channel, payload))
        return b":%d\r\n" % len(hearers)

    @staticmethod
    def out(connection: ScriptedConnection, *parts: bytes | int | None) -> bytes:
        """Return what is sent unasked, as this connection's protocol has it."""
        return array(*parts, mark=b">" if connection.is_resp3 else b"*")
