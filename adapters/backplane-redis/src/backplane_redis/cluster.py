"""`ClusterTransport`: opens links to a Redis or Valkey cluster, by sharded pub/sub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backplane_core import BrokerReport, Link, Traits

from backplane_redis._cluster.link import ClusterLink
from backplane_redis._cluster.seeds import ClusterSeeds
from backplane_redis._limits import MAX_PAYLOAD_BYTES, with_limit
from backplane_redis._url import RedisUrl

__all__ = ["ClusterTransport"]


class ClusterTransport:
    """Opens links to a Redis or Valkey cluster, by sharded pub/sub; constructing it opens nothing.

    Args:
        url: `redis-cluster://user:password@host1:6379,host2:6379`, or with `rediss-cluster` (TLS), `valkey-cluster`,
            `valkeys-cluster` (TLS). One node is enough to find the others; name several for when one is away. Options
            go into the query.
        connection_kwargs: Options of redis-py's connection that don't fit a URL; the URL's own win.
        address_map: Where the addresses that nodes announce can be reached, if not there: `announced=reachable`,
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
        self._url = RedisUrl.parse_cluster(url)
        self._seeds = ClusterSeeds(self._url, connection_kwargs, address_map)
        self._traits = Traits(max_payload_bytes=MAX_PAYLOAD_BYTES, nodes="several")

    @property
    def traits(self) -> Traits:
        """What a cluster can do; `max_payload_bytes` is what its nodes are known to take."""
        self._traits = with_limit(self._traits, self._seeds.limits)
        return self._traits

    def __repr__(self) -> str:
        return f"ClusterTransport('{self._url}')"

    async def open(self) -> Link:
        """Ask one node after another which node serves which slots, and return a link that knows it.

        Nodes are connected to when a channel needs them.

        Raises:
            TransportError: No node answers that it is one of a cluster.
            AuthenticationError: A node refused the credentials, or the user may not ask.

        Cancellation: leaves no socket behind.
        """
        seeds = self._seeds
        connection, slots = await seeds.ask()
        link = ClusterLink(slots, seeds.connector, seeds.limits)
        if seeds.last_asked in slots.owners:
            link.adopt(seeds.last_asked, connection)
        else:
            await connection.disconnect(nowait=True)
        return link

    async def inspect(self) -> BrokerReport:
        """Connect to each node that serves slots, ask for what a fleet should know, and disconnect.

        It changes nothing there.

        Raises:
            TransportError: No node answers, or one of them can't be reached.
            AuthenticationError: A node refused the credentials.

        Cancellation: leaves no socket behind.
        """
        return await self._seeds.inspect()
