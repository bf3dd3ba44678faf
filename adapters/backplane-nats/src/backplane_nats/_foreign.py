"""What answers on a port where no NATS server does: `ForeignServerError`, `read_first_line`."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Final

import nats.errors
from attrs import frozen
from backplane_core.sockets import first_answer, tls_hello

__all__ = ["ForeignServerError", "read_first_line"]

_PATIENCE_S: Final = 0.5
"""A NATS server speaks first, so silence for this long is a reason to look what is there."""
_SILENCE_S: Final = 2.0
"""What a server has after that to say something: all within five seconds, core's default patience."""
_ASK_S: Final = 0.75
_FIRST_BYTES: Final = 64

_ASK: Final = b"PING / HTTP/1.1\r\n\r\n"
"""Redis takes it for a PING with too many operands, HTTP for a request without a host: both answer at once. It holds
nothing of this user's."""


@frozen
class _Meaning:
    """What the first bytes of a server mean.

    Args:
        pattern: What they begin with.
        text: For people.
        retryable: Whether trying again can help.
    """

    pattern: bytes
    text: str
    retryable: bool = False


# The first that fits counts.
_MEANINGS: Final = (
    _Meaning(rb"-ERR '(?i:maximum connections)", "it has reached its max_connections", retryable=True),
    _Meaning(rb"-ERR '", "it refused the connection before it said what it is", retryable=True),
    _Meaning(
        rb"-(?:ERR|DENIED|NOAUTH|LOADING|BUSY|MASTERDOWN|NOPERM) |\+PONG", "it is a Redis server: connect with redis://"
    ),
    _Meaning(rb"HTTP/|(?i:\s*<(?:!doctype|html))", "it speaks HTTP: is it the monitoring port, or a proxy?"),
    _Meaning(rb"SSH-", "it is an SSH server"),
    _Meaning(
        rb"[\x14-\x16]\x03", "it speaks TLS: is it NATS that wants the TLS handshake first (tls_handshake_first=true)?"
    ),
    _Meaning(rb".", "what it sends is not the NATS protocol: is the port right?"),
    _Meaning(rb"", "it accepts connections and says nothing: is it NATS, or is it frozen?", retryable=True),
)


class ForeignServerError(nats.errors.Error):
    """There is a server, and what it says is not how NATS greets. Its words are not quoted.

    Args:
        first_bytes: What it said; empty: nothing.
    """

    def __init__(self, first_bytes: bytes) -> None:
        meaning = next(one for one in _MEANINGS if re.match(one.pattern, first_bytes, re.DOTALL))
        super().__init__(meaning.text)
        self.retryable = meaning.retryable


async def read_first_line(reader: asyncio.StreamReader, peer: tuple[str, int] | None) -> bytes:
    """Return the line in which a NATS server introduces itself; empty: it closed the connection.

    Redis, HTTP and TLS servers wait for the client to speak, which no client of NATS does. So where nothing comes,
    other connections find out who is there, while the first goes on waiting: the server may just be slow.

    Args:
        reader: Of a connection that was just opened.
        peer: Where it leads; None: nobody is asked.

    Raises:
        ForeignServerError: It is no NATS server, or says nothing.

    Cancellation: leaves no socket and no task behind.
    """
    first = asyncio.create_task(reader.read(1))
    try:
        await asyncio.wait({first}, timeout=_PATIENCE_S)
        if not first.done() and peer is not None:
            answer = await first_answer(*peer, _ASK, timeout_s=_ASK_S)
            answer = answer or await first_answer(*peer, tls_hello(), timeout_s=_ASK_S)
            if answer and not answer.startswith(b"INFO ") and not first.done():
                raise ForeignServerError(answer)
        await asyncio.wait({first}, timeout=_SILENCE_S)
        if not first.done():
            raise ForeignServerError(b"")
        head = first.result()
    finally:
        first.cancel()
        await asyncio.wait({first})
    if head == b"I":
        line = head + await reader.readline()
        if line.startswith(b"INFO ") or not line.endswith(b"\n"):  # or closed in the middle of it
            return line
        raise ForeignServerError(line)
    if head:
        raise ForeignServerError(head + await _read_some(reader))
    return b""


async def _read_some(reader: asyncio.StreamReader) -> bytes:
    """Return what came together with the first byte."""
    with suppress(OSError):
        async with asyncio.timeout(_ASK_S):
            return await reader.read(_FIRST_BYTES)
    return b""
