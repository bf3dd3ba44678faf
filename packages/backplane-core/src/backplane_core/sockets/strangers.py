"""Finds out what answers on a port where something else was expected: `first_answer`, `tls_hello`."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Final

__all__ = ["first_answer", "tls_hello"]

_ANSWER_BYTES: Final = 64


async def first_answer(host: str, port: int, words: bytes, *, timeout_s: float) -> bytes:
    """Return the first bytes that a server answers to these, on a connection of its own.

    For errors that name what is there: a wrong port, a server without TLS, or one with it. Send no secret.

    Args:
        host: An address, or a name.
        port: From 1 to 65535.
        words: The bytes to send.
        timeout_s: Seconds to wait, for the connection and for the answer.

    Returns:
        At most 64 bytes; none if it can't be reached, closes the connection or sends nothing in time.

    Cancellation: leaves no socket behind.
    """
    with suppress(OSError):  # one of them is a TimeoutError
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(words)
                return await reader.read(_ANSWER_BYTES)
            finally:
                writer.transport.abort()
                with suppress(OSError):
                    await writer.wait_closed()
    return b""


def tls_hello() -> bytes:
    """Return a TLS ClientHello, which only a server that speaks TLS answers in TLS."""
    hello = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(
            ssl.MemoryBIO(), hello, server_hostname="localhost"
        ).do_handshake()
    return hello.read()
