"""`SentinelTransport`: opens links to the master that sentinels name, and leaves it when they name another."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Final, cast

from attrs import evolve
from backplane_core import BrokerReport, ConfigurationError, Link, Traits

from backplane_redis._inspection import inspect_node
from backplane_redis._limits import Limits, with_limit
from backplane_redis._opening import Connector
from backplane_redis._options import connection_options, sentinel_options
from backplane_redis._reaching import Reaching
from backplane_redis._sentinel.client import Sentinel
from backplane_redis._sentinel.discovery import connect_to_master, find_master
from backplane_redis._sentinel.link import SentinelLink
from backplane_redis._texts import TLS_OPTIONS, BadText, parse_option, parse_switch
from backplane_redis._url import RedisUrl
from backplane_redis.transport import TRAITS

__all__ = ["SentinelTransport"]

_OF_SENTINELS: Final = "sentinel_"
_TEXTS: Final = ("username", "password", "ssl", *TLS_OPTIONS)
"""What a query may hold of `sentinel_kwargs`."""


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
        reaching = Reaching.parse(self._url, connection_kwargs, announces=True, address_map=address_map)
        query, of_sentinels = dict(reaching.url.query), dict[str, Any]()
        for name in self._url.query:
            if name.startswith(_OF_SENTINELS) and name in query:
                of_sentinels[name.removeprefix(_OF_SENTINELS)] = self._parse(name, query.pop(name))
        given = dict(reaching.given)
        own = given.pop("sentinel_kwargs", {})
        if not isinstance(own, Mapping):
            raise ConfigurationError(f"{self._url}: sentinel_kwargs must be a mapping of options")
        own = {**cast("Mapping[str, Any]", own), **of_sentinels}
        node = connection_options(evolve(self._url, query=query), given)
        self._to_node = Connector(
            node, self._url, addresses=reaching.addresses, tls_hostname=reaching.tls_hostname, renew_s=reaching.renew_s
        )
        self._to_sentinel = Connector(
            sentinel_options(self._url, node, own), self._url, tls_hostname=reaching.tls_hostname
        )
        self._limits = Limits()
        self._traits = TRAITS

    def _parse(self, name: str, text: str) -> Any:  # noqa: ANN401 -- whatever redis-py takes
        option = name.removeprefix(_OF_SENTINELS)
        if option not in _TEXTS:
            raise ConfigurationError(
                f"{self._url} has no option {name!r}; for sentinels there are {', '.join(map(_full_name, _TEXTS))}"
            )
        try:
            return parse_switch(text) if option == "ssl" else parse_option(option, text)
        except BadText as wrong:
            problem = f"{self._url}: the value of {name!r} can't be used; allowed: {wrong}"
        raise ConfigurationError(problem)

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
        service = self._url.service
        sentinels = [Sentinel(self._to_sentinel, address) for address in self._url.hosts]
        async with AsyncExitStack() as unless_open:  # closes each, also if this is cancelled at another one
            for sentinel in sentinels:
                unless_open.push_async_callback(sentinel.close)
            quorum, master = await find_master(sentinels, service)
            connection = await connect_to_master(self._to_node, master, service)
            unless_open.push_async_callback(connection.disconnect, nowait=True)
            await self._limits.ask(connection)
            unless_open.pop_all()  # the link owns every socket from here on
            return SentinelLink(connection, master, sentinels, quorum, service, self._limits)

    async def inspect(self) -> BrokerReport:
        """Connect to the master that the sentinels name, ask for what a fleet should know, and disconnect.

        It changes nothing there.

        Raises:
            TransportError: It can't be reached, or closed the connection.
            AuthenticationError: It, or the sentinels, refused the credentials.

        Cancellation: leaves no socket behind.
        """
        service = self._url.service
        async with AsyncExitStack() as stack:
            sentinels = [Sentinel(self._to_sentinel, address) for address in self._url.hosts]
            for sentinel in sentinels:
                stack.push_async_callback(sentinel.close)
            _, master = await find_master(sentinels, service)
            connection = await connect_to_master(self._to_node, master, service)
            return await inspect_node(connection, master, self._to_node.access(master))


def _full_name(option: str) -> str:
    return f"{_OF_SENTINELS}{option}"
