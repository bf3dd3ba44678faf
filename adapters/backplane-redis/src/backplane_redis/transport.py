"""`RedisTransport`: opens links to one Redis or Valkey server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import evolve
from backplane_core import BrokerReport, Link, Traits

from backplane_redis._greeting import RESP2
from backplane_redis._inspection import inspect_node
from backplane_redis._kinds import NodeChecker
from backplane_redis._limits import MAX_PAYLOAD_BYTES, Limits, with_limit
from backplane_redis._link import RedisLink
from backplane_redis._opening import Connector
from backplane_redis._reaching import Reaching
from backplane_redis._resp2.link import TwoConnectionLink
from backplane_redis._url import RedisUrl, format_address

__all__ = ["RedisTransport"]

TRAITS: Final = Traits(single_stream=True, max_payload_bytes=MAX_PAYLOAD_BYTES, nodes="several")
TRAITS_OF_TWO: Final = evolve(TRAITS, single_stream=False)
"""Over RESP2 a link has a connection for each direction."""


class RedisTransport:
    """Opens links to one Redis or Valkey server; constructing it opens nothing.

    Args:
        url: `redis://user:password@host:6379/0`, or with `rediss` (TLS), `valkey`, `valkeys` (TLS), or
            `unix:///path/to/socket`. Options go into the query: `?client_name=pod-7`. `?protocol=2` asks for RESP2,
            with a connection for each direction, and `?protocol=3` for RESP3 alone. By default it is RESP3, and RESP2
            where the server or a proxy knows no other.
        connection_kwargs: Options of redis-py's connection that don't fit a URL; the URL's own win.

    Raises:
        ConfigurationError: The URL or an option is wrong. The message says what is allowed and shows no secret.
    """

    def __init__(self, url: str, *, connection_kwargs: Mapping[str, Any] | None = None) -> None:
        self._url = RedisUrl.parse(url)
        reaching = Reaching.parse(self._url, connection_kwargs, announces=False)
        self._connector = Connector.to_server(self._url, reaching)
        self._limits = Limits()
        self._traits = TRAITS_OF_TWO if reaching.protocol == RESP2 else TRAITS
        self._checker = NodeChecker()

    def __repr__(self) -> str:
        return f"RedisTransport('{self._url}')"

    @property
    def traits(self) -> Traits:
        """What Redis can do; `max_payload_bytes` is what it is known to take.

        `single_stream` is as the last link has it: over RESP2 it is False.
        """
        self._traits = with_limit(self._traits, self._limits)
        return self._traits

    async def open(self) -> Link:
        """Connect, authenticate and switch to RESP3, in one attempt; a server without it gets a link over RESP2.

        Raises:
            TransportError: The server can't be reached, TLS or the handshake failed, or it is a replica.
            AuthenticationError: The server refused the credentials.

        Cancellation: leaves no socket behind.
        """
        address = self._url.hosts[0] if self._url.hosts else None
        where = format_address(address) if address else self._url.path
        connection = await self._connector.open(address)
        try:
            standing = await self._checker.check(connection, where)
            await self._limits.ask(connection)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        if connection.greeting.is_resp3:
            self._traits = with_limit(TRAITS, self._limits)
            return RedisLink(connection, where, standing, self._limits)
        self._traits = with_limit(TRAITS_OF_TWO, self._limits)
        return TwoConnectionLink(connection, self._connector, address, where, standing, self._limits)

    async def inspect(self) -> BrokerReport:
        """Connect to the server, ask for what a fleet should know of it, and disconnect; it changes nothing there.

        Raises:
            TransportError: It can't be reached, or closed the connection.
            AuthenticationError: It refused the credentials.

        Cancellation: leaves no socket behind.
        """
        address = self._url.hosts[0] if self._url.hosts else None
        connection = await self._connector.open(address)
        return await inspect_node(connection, address, self._connector.access(address))
