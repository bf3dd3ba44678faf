"""A service that sentinels watch, as a URL names it: `SentinelService`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Final, cast

from attrs import evolve
from backplane_core import Access, ConfigurationError

from backplane_redis._connection import LinkConnection
from backplane_redis._opening import Connector
from backplane_redis._options import connection_options, sentinel_options
from backplane_redis._reaching import Reaching
from backplane_redis._sentinel.client import Sentinel
from backplane_redis._sentinel.discovery import connect_to_master, find_master
from backplane_redis._sentinel.watch import Master
from backplane_redis._texts import TLS_OPTIONS, BadText, parse_option, parse_switch
from backplane_redis._url import Address, RedisUrl

__all__ = ["SentinelService"]

_OF_SENTINELS: Final = "sentinel_"
_TEXTS: Final = ("username", "password", "ssl", *TLS_OPTIONS)
"""What a query may hold of `sentinel_kwargs`."""


class SentinelService:
    """Connects to the sentinels of one service, and to the nodes that they name; constructing it opens nothing.

    Args:
        url: Parsed.
        connection_kwargs: Options of redis-py's connection, and `sentinel_kwargs`.
        address_map: Where the nodes that the sentinels name can be reached, if not there.

    Raises:
        ConfigurationError: An option is wrong. The message says what is allowed and shows no secret.
    """

    def __init__(
        self, url: RedisUrl, connection_kwargs: Mapping[str, Any] | None, address_map: Mapping[str, str] | str | None
    ) -> None:
        self._url = url
        reaching = Reaching.parse(url, connection_kwargs, announces=True, address_map=address_map)
        query, of_sentinels = dict(reaching.url.query), dict[str, Any]()
        for name in url.query:
            if name.startswith(_OF_SENTINELS) and name in query:
                of_sentinels[name.removeprefix(_OF_SENTINELS)] = self._parse(name, query.pop(name))
        given = dict(reaching.given)
        own = given.pop("sentinel_kwargs", {})
        if not isinstance(own, Mapping):
            raise ConfigurationError(f"{url}: sentinel_kwargs must be a mapping of options")
        own = {**cast("Mapping[str, Any]", own), **of_sentinels}
        node = connection_options(evolve(url, query=query), given)
        self.connector = Connector(
            node, url, addresses=reaching.addresses, tls_hostname=reaching.tls_hostname, renew_s=reaching.renew_s
        )
        """Connects to a node of the service, whatever its role."""
        self._to_sentinel = Connector(sentinel_options(url, node, own), url, tls_hostname=reaching.tls_hostname)

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

    async def find(self, stack: AsyncExitStack) -> Master:
        """Ask the sentinels for the master.

        Args:
            stack: Closes the connections to them, unless something else does.

        Raises:
            TransportError: No sentinel answers, or none knows the service.
            AuthenticationError: All refused.
        """
        service = self._url.service
        sentinels = [Sentinel(self._to_sentinel, address) for address in self._url.hosts]
        for sentinel in sentinels:
            stack.push_async_callback(sentinel.close)
        quorum, address = await find_master(sentinels, service)
        return Master(service=service, address=address, sentinels=sentinels, quorum=quorum)

    async def connect(self, master: Master) -> LinkConnection:
        """Return a connection to a node that says itself that it is a master; raise as `connect_to_master`."""
        return await connect_to_master(self.connector, master.address, master.service)

    def access(self, address: Address) -> Access:
        """Return how the node at an address is reached."""
        return self.connector.access(address)


def _full_name(option: str) -> str:
    return f"{_OF_SENTINELS}{option}"
