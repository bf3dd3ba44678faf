"""`RedisTransport`: opens links to one Redis or Valkey server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backplane_core import Link, Traits

from backplane_redis._link import MAX_PAYLOAD_BYTES, RedisLink
from backplane_redis._opening import Connector
from backplane_redis._options import connection_options
from backplane_redis._reaching import Reaching
from backplane_redis._url import RedisUrl, format_address

__all__ = ["RedisTransport"]


class RedisTransport:
    """Opens links to one Redis or Valkey server; constructing it opens nothing.

    Args:
        url: `redis://user:password@host:6379/0`, or with `rediss` (TLS), `valkey`, `valkeys` (TLS), or
            `unix:///path/to/socket`. Options go into the query: `?client_name=pod-7`.
        connection_kwargs: Options of redis-py's connection that don't fit a URL; the URL's own win.

    Raises:
        ConfigurationError: The URL or an option is wrong. The message says what is allowed and shows no secret.
    """

    traits: Traits = Traits(single_stream=True, max_payload_bytes=MAX_PAYLOAD_BYTES)

    def __init__(self, url: str, *, connection_kwargs: Mapping[str, Any] | None = None) -> None:
        self._url = RedisUrl.parse(url)
        reaching = Reaching.parse(self._url, connection_kwargs, announces=False)
        options = connection_options(reaching.url, reaching.given)
        self._connector = Connector(options, self._url, tls_hostname=reaching.tls_hostname, renew_s=reaching.renew_s)

    def __repr__(self) -> str:
        return f"RedisTransport('{self._url}')"

    async def open(self) -> Link:
        """Connect, authenticate and switch to RESP3, in one attempt.

        Raises:
            TransportError: The server can't be reached, or TLS or the handshake failed.
            AuthenticationError: The server refused the credentials.

        Cancellation: leaves no socket behind.
        """
        address = self._url.hosts[0] if self._url.hosts else None
        where = format_address(address) if address else self._url.path
        return RedisLink(await self._connector.open(address), where)
