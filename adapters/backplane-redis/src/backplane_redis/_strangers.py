"""What is there when a server does not speak as its URL says, in TLS or without: `Strangers`."""

from __future__ import annotations

import asyncio
from typing import Final

from attrs import frozen
from backplane_core.sockets import first_answer, tls_hello

from backplane_redis._connection import LinkConnection
from backplane_redis._refusals import describe_plain, is_tls
from backplane_redis._url import RedisUrl

__all__ = ["Stranger", "Strangers"]

_PATIENCE_S: Final = 0.5
"""A TLS handshake takes two round trips, so silence for this long is a reason to look what is there.

A server that speaks TLS and is only slow gets a plain connection for it; none once this transport has reached one."""
_ASK_S: Final = 0.4
"""What a server has to answer who it is: with the patience before, within the second that a sentinel or node has."""

_PING: Final = b"PING\r\n"
"""Redis answers it at once, whether it wants a password or not; most others say something too."""


@frozen
class Stranger(Exception):  # noqa: N818 -- who it is
    """A server speaks, and not as its URL says.

    Args:
        text: What it is, for people.
    """

    text: str


class Strangers:
    """Finds out who is there, for the connections of one transport.

    Args:
        url: For what to connect with instead.
        in_tls: Whether connections are to be in TLS.
    """

    def __init__(self, url: RedisUrl, *, in_tls: bool) -> None:
        self._in_tls = in_tls
        self.was_reached = False
        """Whether a server that is as it should be was connected to; then none is asked any longer."""
        # Sentinels may be spoken to otherwise than the URL says of the nodes.
        self._instead = f"connect with {url.other_scheme}://" if url.uses_tls == in_tls else "see sentinel_ssl"

    async def connect_in_tls(self, connection: LinkConnection) -> None:
        """Connect; find out who is there if the server says nothing.

        Redis without TLS takes the first words of a TLS client for the beginning of a line, and waits for its end: it
        would never say what is wrong. Nobody is asked any longer once a handshake has succeeded: a whole fleet that
        comes back to a busy broker would double its work.

        Raises:
            Stranger: It answers in plain text.

        Cancellation: leaves no task behind; closing the connection is the caller's.
        """
        connecting = asyncio.create_task(connection.connect())  # type: ignore[no-untyped-call]  # redis-py's gap
        try:
            if not self.was_reached:
                await asyncio.wait({connecting}, timeout=_PATIENCE_S)
                # With a stream the handshake is over, and something else takes its time: the caller's credentials.
                is_silent = not connecting.done() and connection.stream() is None
                if is_silent and (text := await self.describe(connection)) is not None:
                    raise Stranger(text)
            await connecting
        finally:
            connecting.cancel()
            await asyncio.wait({connecting})
            if not connecting.cancelled():
                connecting.exception()  # so that asyncio does not log it

    async def describe(self, connection: LinkConnection) -> str | None:
        """Return who is at the other end, if it is not who was expected; None: that can't be known."""
        if connection.peer is None:
            return None
        said = await first_answer(*connection.peer, _PING if self._in_tls else tls_hello(), timeout_s=_ASK_S)
        if not self._in_tls:
            return f"it speaks TLS: {self._instead}" if is_tls(said) else None
        if said.startswith((b"+", b"-")):  # whether it wants a password or not
            return f"it speaks no TLS: is it the right port? Without TLS, {self._instead}"
        return describe_plain(said)
