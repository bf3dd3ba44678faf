"""Opens further connections to a server: `SessionSource`, `ServerSessions`."""

from __future__ import annotations

from typing import Protocol

from attrs import frozen

from backplane_redis._opening import Connector
from backplane_redis._streams.session import Session
from backplane_redis._url import Address, format_address

__all__ = ["ServerSessions", "SessionSource"]


class SessionSource(Protocol):
    """Opens connections to the server that has a queue."""

    async def open(self) -> Session:
        """Return another connection, which is the caller's.

        Raises:
            TransportError: The server can't be connected to.
        """
        ...


@frozen
class ServerSessions(SessionSource):
    """Opens connections to one server.

    Args:
        connector: Connects.
        address: Where the server is.
    """

    _connector: Connector
    _address: Address

    async def open(self) -> Session:
        return Session(await self._connector.open(self._address), format_address(self._address))
