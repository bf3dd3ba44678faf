"""The nodes of a cluster that may be asked for the others: `ClusterSeeds`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backplane_core import BrokerReport, ConfigurationError, TransportError

from backplane_redis._cluster.discovery import ask_for_slots
from backplane_redis._cluster.slots import SlotMap
from backplane_redis._connection import LinkConnection
from backplane_redis._inspection import inspect_node
from backplane_redis._limits import Limits
from backplane_redis._opening import Connector
from backplane_redis._options import connection_options
from backplane_redis._reaching import Reaching
from backplane_redis._streams.replicas import ask_for_replicas
from backplane_redis._url import Address, RedisUrl, format_address

__all__ = ["ClusterSeeds"]


class ClusterSeeds:
    """Asks one node after another which node serves which slots; constructing it opens nothing.

    Args:
        url: Parsed.
        connection_kwargs: Options of redis-py's connection.
        address_map: Where the addresses that nodes announce can be reached, if not there.

    Raises:
        ConfigurationError: An option is wrong. The message says what is allowed and shows no secret.
    """

    def __init__(
        self, url: RedisUrl, connection_kwargs: Mapping[str, Any] | None, address_map: Mapping[str, str] | str | None
    ) -> None:
        self._url = url
        reaching = Reaching.parse(url, connection_kwargs, announces=True, address_map=address_map)
        if "db" in {*reaching.given, *url.query}:
            raise ConfigurationError(f"{url} has no option 'db': a cluster has one database")
        self.connector = Connector(
            connection_options(reaching.url, reaching.given),
            url,
            addresses=reaching.addresses,
            tls_hostname=reaching.tls_hostname,
            renew_s=reaching.renew_s,
        )
        """Connects to any node."""
        self.limits = Limits()
        """What is known of how large a message may be."""
        # The nodes to ask, in this order: the URL's hosts, and those that were found.
        self._askable = list(url.hosts)

    @property
    def last_asked(self) -> Address:
        """The node that answered last."""
        return self._askable[-1]

    async def ask(self) -> tuple[LinkConnection, SlotMap]:
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
                connection, slots = await ask_for_slots(self.connector, address, self.limits)
            except TransportError as error:
                failures.append(error)
                continue
            owners = slots.owners
            still = {*self._url.hosts, *owners, address}
            kept = [one for one in self._askable[:-1] if one in still]
            self._askable = list(dict.fromkeys([*kept, *sorted(owners - {address}), address]))
            return connection, slots
        raise next((error for error in failures if not error.retryable), failures[-1])

    async def inspect(self, *, is_log: bool = False) -> BrokerReport:
        """Connect to each node that serves slots, ask for what a fleet should know, and disconnect.

        Args:
            is_log: Whether streams are used, and not pub/sub: then each replica is asked as well.

        Raises:
            TransportError: No node answers, or one that serves slots can't be reached.
            AuthenticationError: A node refused the credentials.
        """
        connection, slots = await self.ask()
        await connection.disconnect(nowait=True)
        reports: list[BrokerReport] = []
        replicas: list[Address] = []
        unasked: list[str] = []
        for address in sorted(slots.owners):
            if is_log:
                replicas += await self._replicas_of(address)
            opened = await self.connector.open(address)
            access = self.connector.access(address)
            reports.append(await inspect_node(opened, address, access, is_log=is_log, is_replicated=is_log))
        server = f"a cluster of {len(reports)} nodes with slots, the first of which is {reports[0].server}"
        for address in replicas:
            try:
                opened = await self.connector.open(address)
                access = self.connector.access(address)
                reports.append(await inspect_node(opened, address, access, is_log=is_log, is_replicated=is_log))
            except TransportError as error:
                unasked.append(f"the replica at {format_address(address)}: {error}")
        return BrokerReport(
            server=f"{server}, {len(replicas)} replicas" if is_log else server,
            advice=[advice for report in reports for advice in report.advice],
            unasked=[*[what for report in reports for what in report.unasked], *unasked],
        )

    async def _replicas_of(self, address: Address) -> list[Address]:
        asked = await self.connector.open(address)
        try:
            return [*await ask_for_replicas(asked, format_address(address))]
        finally:
            await asked.disconnect(nowait=True)
