"""A stand-in for a NATS server: `ScriptedNats`.

    with ScriptedNats({"CONNECT": b"-ERR 'Authorization Violation'\\r\\n"}) as server:
        ...
    pong = info(max_payload=65536) + b"PONG\\r\\n"
    with ScriptedNats({"PING": [pong, USUAL]}) as server:
        ...                                      # an account's limit, in a second INFO

What the table leaves out is answered as NATS does: subscriptions are real, and PUB reaches them.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Final

from backplane_testservers.scripted import Answer, ScriptedConnection, ScriptedServer

__all__ = ["ScriptedNats", "err", "info"]

LONGEST_HEAD: Final = 5
"""The words of `HPUB subject reply header-bytes total-bytes`."""


def info(**fields: Any) -> bytes:
    """Return an INFO message with these fields, and what every client needs."""
    usual = {"server_id": "SCRIPTED", "version": "2.10.25", "proto": 1, "headers": True, "max_payload": 1048576}
    return b"INFO %b\r\n" % json.dumps({**usual, **fields}).encode()


def err(text: str) -> bytes:
    """Return an error message."""
    return f"-ERR '{text}'\r\n".encode()


class ScriptedNats(ScriptedServer):
    """A server that greets with INFO, answers PING, and passes messages on.

    A command is one tuple of words: for PUB and HPUB the payload is the last one.

    Args:
        answers: As in `ScriptedServer`: by command, such as "CONNECT", "PING", "SUB", "PUB".
        fields: Of the first INFO.
        greeting: As in `ScriptedServer`.
        tls: As in `ScriptedServer`.
    """

    scheme = "nats"

    def __init__(
        self,
        answers: Mapping[str, Answer | Sequence[Answer]] | None = None,
        *,
        fields: Mapping[str, Any] | None = None,
        greeting: bytes | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(answers, greeting=greeting, tls=tls)
        self.fields = dict(fields or {})

    def usual_greeting(self) -> bytes:
        return info(host=self.host, port=self.port, **self.fields)

    async def read_command(self, reader: asyncio.StreamReader) -> tuple[bytes, ...] | None:
        line = await reader.readline()
        if not line:
            return None
        words = line.split(None, LONGEST_HEAD)
        if not words:
            return ()
        name = words[0].upper()
        if name in {b"PUB", b"HPUB"}:
            payload = await reader.readexactly(int(words[-1]) + 2)
            return (*words, payload[:-2])
        if name == b"CONNECT":
            return name, line.split(None, 1)[1].strip()
        return tuple(words)

    def usual(self, connection: ScriptedConnection, words: tuple[bytes, ...]) -> bytes:
        match words[0].upper():
            case b"PING":
                return b"PONG\r\n"
            case b"SUB":
                connection.channels[words[-1]] = words[1]
            case b"UNSUB":
                connection.channels.pop(words[1], None)
            case b"PUB":
                self.publish(words[1], words[-1])
            case b"HPUB":
                self.publish(words[1], words[-1][int(words[-3]) :])
            case _:
                pass
        return b""

    def publish(self, subject: bytes, payload: bytes) -> None:
        """Deliver to every subscription of exactly this subject; headers are left out."""
        for hearer in self.connections:
            for sid, heard in [*hearer.channels.items()]:
                if heard == subject:
                    hearer.write(b"MSG %b %b %d\r\n%b\r\n" % (subject, sid, len(payload), payload))
