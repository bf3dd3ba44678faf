"""`Tap`: takes the bytes of a client library's connection before the library sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Tap"]


class Tap(asyncio.Protocol):
    """Stands in front of a connection's own protocol: takes what arrives, in the socket's callback, and nothing else.

    So the library still writes, waits for its writes to drain and closes as before. Nothing is read through its stream
    any longer, unless that is fed through `behind`.

    Args:
        transport: Transport of the open connection.
        taken: Called with the bytes of each read.
        ended: Called once when nothing else will come: the other side ended the stream, or the connection is lost.

    Raises:
        TypeError: The connection has a protocol of another kind, as for datagrams.
    """

    def __init__(
        self, transport: asyncio.BaseTransport, taken: Callable[[bytes], None], ended: Callable[[], None]
    ) -> None:
        behind = transport.get_protocol()
        if not isinstance(behind, asyncio.Protocol):
            raise TypeError(f"a Tap stands in front of a streaming protocol, not of a {type(behind).__name__}")
        self.behind: asyncio.Protocol = behind
        self._taken = taken
        self._ended: Callable[[], None] | None = ended
        transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        """Take the bytes."""
        self._taken(data)

    def eof_received(self) -> bool | None:
        """Report the end, and let the library decide whether the other half stays open."""
        self._end()
        return self.behind.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify both protocols."""
        try:
            self._end()
        finally:
            self.behind.connection_lost(exc)

    def _end(self) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()

    def pause_writing(self) -> None:
        """Pass it on: `drain()` waits for it."""
        self.behind.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self.behind.resume_writing()
