"""Talk to a broker in its own protocol, without a client library: `ask_redis`, `ask_nats`, `is_responding`.

Client libraries reconnect, retry, and keep sockets after a refusal; here each call is one connection, which it closes.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from backplane_testservers.broker import Broker
from backplane_testservers.nats_keys import Key

__all__ = ["ask_nats", "ask_redis", "is_responding"]


async def is_responding(broker: Broker, *, timeout_s: float = 2.0) -> bool:
    """Return whether the broker itself, and not only its socket, replies to a PING; for one that needs no login."""
    try:
        async with asyncio.timeout(timeout_s):
            if broker.kind == "redis":
                return await ask_redis((broker.host, broker.port), ["PING"]) == "+PONG"
            return await ask_nats((broker.host, broker.port)) == "PONG"
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False


async def ask_redis(address: tuple[str, int] | Path, *commands: list[str], tls: ssl.SSLContext | None = None) -> str:
    """Send the commands one by one and return the first line of the last reply, or of the first error."""
    async with _connection(address, tls) as (reader, writer):
        line = ""
        for command in commands:
            words = [word.encode() for word in command]
            writer.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words))
            line = await _line(reader)
            if line.startswith("-"):
                break
        return line


async def ask_nats(
    address: tuple[str, int],
    login: Mapping[str, str] | None = None,
    *,
    key: Key | None = None,
    tls: ssl.SSLContext | None = None,
) -> str:
    """Log in, send a PING and return the reply: `PONG`, or the error.

    Args:
        address: Host and port.
        login: Fields of the CONNECT message: `user` and `pass`, `auth_token`, `jwt`, ...
        key: Sign the server's nonce with this one.
        tls: Switch to TLS after the server's greeting.
    """
    async with _connection(address, None) as (reader, writer):
        info = cast("dict[str, object]", json.loads((await _line(reader)).removeprefix("INFO ")))
        if tls is not None:
            await writer.start_tls(tls, server_hostname=address[0])
        connect: dict[str, object] = {"verbose": False, "pedantic": False, **(login or {})}
        if key is not None:
            signature = key.signing.sign(str(info["nonce"]).encode()).signature
            connect |= {"nkey": key.public, "sig": base64.urlsafe_b64encode(signature).decode().rstrip("=")}
        writer.write(b"CONNECT %b\r\nPING\r\n" % json.dumps(connect).encode())
        # After TLS the server greets again.
        while (line := await _line(reader)).startswith("INFO "):
            pass
        return line


@asynccontextmanager
async def _connection(
    address: tuple[str, int] | Path, tls: ssl.SSLContext | None
) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with asyncio.timeout(10):
        if isinstance(address, Path):
            reader, writer = await asyncio.open_unix_connection(address)
        else:
            reader, writer = await asyncio.open_connection(*address, ssl=tls)
        try:
            yield reader, writer
        finally:
            # Not closed politely: a frozen server would never take part in that.
            writer.transport.abort()


async def _line(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\r\n")).decode().rstrip()
