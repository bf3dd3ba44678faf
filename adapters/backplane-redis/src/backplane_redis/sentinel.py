"""`SentinelTransport`: opens links to the master that sentinels name, and leaves it when they name another."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from backplane_core import BrokerReport, Link, Traits

from backplane_redis._inspection import inspect_node
from backplane_redis._limits import Limits, with_limit
from backplane_redis._sentinel.link import SentinelLink
from backplane_redis._sentinel.service import SentinelService
from backplane_redis._url import RedisUrl
from backplane_redis.transport import TRAITS

__all__ = ["SentinelTransport"]


class SentinelTransport:
    """Opens links to whichever node the sentinels name as a service's master; constructing it opens nothing.

    Args:
        url: `redis+sentinel://user:password@host1:26379,host2:26379/service/0`, or with `rediss+sentinel` (TLS),
            `valkey+sentinel`, `valkeys+sentinel` (TLS). Name every sentinel: the majority decides. User and password
            are those of the Redis servers. Options go into the query: those of `RedisTransport`, and
            `sentinel_username`, `sentinel_password`, `sentinel_ssl` (`true` or `false`, where it differs) and
            `sentinel_ssl_ca_certs` and the like.
        connection_kwargs: As `RedisTransport`; and `sentinel_kwargs`, a mapping of what differs for connections to
            sentinels: `username`, `password`, `credential_provider`, `ssl` (True or False), `ssl_*`.
        address_map: Where the masters that the sentinels name can be reached, if not there: `announced=reachable`,
            several separated by commas, or a mapping. It may stand in the query as well.

    Raises:
        ConfigurationError: The URL or an option is wrong. The message says what is allowed and shows no secret.
    """

    def __init__(
        self,
        url: str,
        *,
        connection_kwargs: Mapping[str, Any] | None = None,
        address_map: Mapping[str, str] | str | None = None,
    ) -> None:
        self._url = RedisUrl.parse_sentinel(url)
        self._service = SentinelService(self._url, connection_kwargs, address_map)
        self._limits = Limits()
        self._traits = TRAITS

    @property
    def traits(self) -> Traits:
        """What Redis can do; `max_payload_bytes` is what it is known to take."""
        self._traits = with_limit(self._traits, self._limits)
        return self._traits

    def __repr__(self) -> str:
        return f"SentinelTransport('{self._url}')"

    async def open(self) -> Link:
        """Ask the sentinels for the master, connect to it, and check that it is one; in one attempt.

        Raises:
            TransportError: No sentinel answers or knows the service, or the master can't be reached.
            AuthenticationError: The sentinels, or the master, refused the credentials.

        Cancellation: leaves no socket behind.
        """
        async with AsyncExitStack() as unless_open:  # closes each, also if this is cancelled at another one
            master = await self._service.find(unless_open)
            connection = await self._service.connect(master)
            unless_open.push_async_callback(connection.disconnect, nowait=True)
            await self._limits.ask(connection)
            unless_open.pop_all()  # the link owns every socket from here on
            return SentinelLink(connection, master, self._limits)

    async def inspect(self) -> BrokerReport:
        """Connect to the master that the sentinels name, ask for what a fleet should know, and disconnect.

        It changes nothing there.

        Raises:
            TransportError: It can't be reached, or closed the connection.
            AuthenticationError: It, or the sentinels, refused the credentials.

        Cancellation: leaves no socket behind.
        """
        async with AsyncExitStack() as stack:
            master = await self._service.find(stack)
            connection = await self._service.connect(master)
            return await inspect_node(connection, master.address, self._service.access(master.address))
