"""`ClusterTransport`: opens links to a Redis or Valkey cluster, by sharded pub/sub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backplane_core import BrokerReport, ConfigurationError, Link, Traits, TransportError

from backplane_redis._cluster.discovery import ask_for_slots
from backplane_redis._cluster.link import ClusterLink
from backplane_redis._cluster.slots import SlotMap
from backplane_redis._connection import LinkConnection
from backplane_redis._inspection import inspect_node
from backplane_redis._limits import MAX_PAYLOAD_BYTES, Limits, with_limit
from backplane_redis._opening import Connector
from backplane_redis._options import connection_options
from backplane_redis._reaching import Reaching
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
        reaching = Reaching.parse(self._url, connection_kwargs, announces=True, address_map=address_map)
        if "db" in {*reaching.given, *self._url.query}:
            raise ConfigurationError(f"{self._url} has no option 'db': a cluster has one database")
        self._connector = Connector(
            connection_options(reaching.url, reaching.given),
            self._url,
            addresses=reaching.addresses,
            tls_hostname=reaching.tls_hostname,
            renew_s=reaching.renew_s,
        )
        # The nodes to ask, in this order: the URL's hosts, and those that were found.
        self._askable = list(self._url.hosts)

        self._limits = Limits()
        self._traits = Traits(max_payload_bytes=MAX_PAYLOAD_BYTES, nodes="several")

    @property
    def traits(self) -> Traits:
        """What a cluster can do; `max_payload_bytes` is what its nodes are known to take."""
        self._traits = with_limit(self._traits, self._limits)
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
        connection, slots = await self._ask()
        link = ClusterLink(slots, self._connector, self._limits)
        if self._askable[-1] in slots.owners:
            link.adopt(self._askable[-1], connection)
        else:
            await connection.disconnect(nowait=True)
        return link

    async def _ask(self) -> tuple[LinkConnection, SlotMap]:
        """Return a connection to a node, which is the last to be asked from now on, and its view of the cluster.

        Raises:
            TransportError: No node answers that it is one of a cluster.
            AuthenticationError: A node refused the credentials, or the user may not ask.
        """
        failures: list[TransportError] = []
        for address in list(self._askable):
            # The next attempt begins with another: one node's view may be out of date.
            self._askable.remove(address)
            self._askable.append(address)
            try:
                connection, slots = await ask_for_slots(self._connector, address, self._limits)
            except TransportError as error:
                failures.append(error)
                continue
            owners = slots.owners
            still = {*self._url.hosts, *owners, address}
            kept = [one for one in self._askable[:-1] if one in still]
            self._askable = list(dict.fromkeys([*kept, *sorted(owners - {address}), address]))
            return connection, slots
        raise next((error for error in failures if not error.retryable), failures[-1])

    async def inspect(self) -> BrokerReport:
        """Connect to each node that serves slots, ask for what a fleet should know, and disconnect.

        It changes nothing there.

        Raises:
            TransportError: No node answers, or one of them can't be reached.
            AuthenticationError: A node refused the credentials.

        Cancellation: leaves no socket behind.
        """
        connection, slots = await self._ask()
        await connection.disconnect(nowait=True)
        reports: list[BrokerReport] = []
        for address in sorted(slots.owners):
            opened = await self._connector.open(address)
            reports.append(await inspect_node(opened, address, self._connector.access(address)))
        return BrokerReport(
            server=f"a cluster of {len(reports)} nodes with slots, the first of which is {reports[0].server}",
            advice=[advice for report in reports for advice in report.advice],
            unasked=[what for report in reports for what in report.unasked],
        )
