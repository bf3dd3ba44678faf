"""nats-py's transport over a socket that `Dialer` opens: `DialingTransport`.

It sets what nats-py's own `connect` sets: `_io_reader`, `_io_writer` and their `_bare_` twins, as nats-py 2.10.0 to
2.16.0 call them. Where they have other names, nats-py opens the socket itself: see `make_transport`.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final
from urllib.parse import ParseResult

from backplane_core.sockets import Dialer
from nats.aio.transport import TcpTransport

from backplane_nats._foreign import read_first_line

__all__ = ["make_transport", "open_streams"]

_SET: Final = frozenset({"_bare_io_reader", "_bare_io_writer", "_io_reader", "_io_writer"})


async def open_streams(
    dialer: Dialer, host: str, port: int, limit: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the first address of a name that answers.

    Args:
        dialer: Opens the socket.
        host: A name or an address.
        port: Its port.
        limit: The longest line that can be read, in bytes.

    Raises:
        OSError: No address could be connected to.

    Cancellation: leaves no socket behind.
    """
    connected = await dialer.open(host, port)
    try:
        return await asyncio.open_connection(sock=connected, limit=limit)
    except BaseException:
        connected.close()
        raise


class DialingTransport(TcpTransport):
    """Connects to the first address of a name that answers, and makes sure that it is a NATS server.

    Args:
        dialer: Opens the sockets of a `NatsTransport`.
        asks: Whether to find out who is there, if nobody says so.
    """

    def __init__(self, dialer: Dialer, *, asks: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # nats-py's gap
        self._dialer = dialer
        self._asks = asks
        self._greeted = False

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        """Connect, within `connect_timeout` seconds."""
        if self._bare_io_writer is not None:  # of a server that was passed over
            self._bare_io_writer.transport.abort()
        async with asyncio.timeout(connect_timeout):
            reader, writer = await open_streams(self._dialer, uri.hostname or "", uri.port or 0, buffer_size)
        self._bare_io_reader = self._io_reader = reader
        self._bare_io_writer = self._io_writer = writer

    async def readline(self) -> bytes:
        """Return the next line.

        Raises:
            ForeignServerError: It would be the first one, and what is there is no NATS server.
        """
        reader = self._io_reader
        if self._greeted or reader is None:
            return bytes(await super().readline())  # type: ignore[no-untyped-call]  # nats-py's gap
        self._greeted = True
        return await read_first_line(reader, self._peer() if self._asks else None)

    def _peer(self) -> tuple[str, int] | None:
        """Return the address at which somebody else may be; None after a TLS handshake, which TLS alone survives."""
        if self._io_reader is not self._bare_io_reader or self._io_writer is None:
            return None
        address = self._io_writer.get_extra_info("peername")
        return None if address is None else (address[0], address[1])  # it may be gone already

    def __bool__(self) -> bool:
        """Return True from the start: nats-py replaces a transport that is false."""
        return True


def make_transport(dialer: Dialer, *, asks: bool) -> Any:  # noqa: ANN401 -- None, or what nats-py's client holds
    """Return a transport for a client that is not connected yet; None where nats-py has to make its own."""
    transport = DialingTransport(dialer, asks=asks)
    return transport if vars(transport).keys() >= _SET else None
