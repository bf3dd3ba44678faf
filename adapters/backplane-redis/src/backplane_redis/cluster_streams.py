"""`ClusterStreamsTransport`: opens links to the streams of a Redis or Valkey cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backplane_core import BrokerReport, QueueLink, Retention, Traits

from backplane_redis._cluster.seeds import ClusterSeeds
from backplane_redis._cluster.stream_link import ClusterStreamLink
from backplane_redis._cluster.stream_nodes import StreamNodes
from backplane_redis._streams.opening import RETAIN_BYTES, RETAIN_ENTRIES, RETAIN_S, TRAITS, StreamOpener
from backplane_redis._url import RedisUrl

__all__ = ["ClusterStreamsTransport"]


class ClusterStreamsTransport:
    """Opens links to the streams of a Redis or Valkey cluster; constructing it opens nothing.

    Each lane of the fleet, and each queue of jobs, is one stream, at the node that serves its slot. A slot that is
    moved, and a node that another takes over from, cost a connection nothing as long as publishers live: see
    `resend_s`. Needs Redis 7.0 or Valkey.

    Args:
        url: `redis-cluster+streams://user:password@host1:6379,host2:6379`, or with `rediss-cluster+streams` (TLS),
            `valkey-cluster+streams`, `valkeys-cluster+streams` (TLS): the URL of `ClusterTransport` with `+streams`
            behind its scheme.
        connection_kwargs: As `ClusterTransport`.
        address_map: As `ClusterTransport`.
        retain_entries: As `StreamsTransport`.
        retain_bytes: As `StreamsTransport`.
        retain_s: As `StreamsTransport`.

    Raises:
        ConfigurationError: The URL or an option is wrong. The message says what is allowed and shows no secret.
    """

    def __init__(
        self,
        url: str,
        *,
        connection_kwargs: Mapping[str, Any] | None = None,
        address_map: Mapping[str, str] | str | None = None,
        retain_entries: int | str = RETAIN_ENTRIES,
        retain_bytes: int | str | None = RETAIN_BYTES,
        retain_s: float | str | None = RETAIN_S,
    ) -> None:
        self._url = RedisUrl.parse_cluster_streams(url)
        retention = Retention.parse(entries=retain_entries, max_bytes=retain_bytes, age_s=retain_s)
        self._seeds = ClusterSeeds(self._url, connection_kwargs, address_map)
        self._opener = StreamOpener(retention, is_replicated=True)

    def __repr__(self) -> str:
        return f"ClusterStreamsTransport('{self._url}')"

    @property
    def traits(self) -> Traits:
        """`durable`, and what Redis takes at most."""
        return TRAITS

    async def open(self) -> QueueLink:
        """Ask one node after another which node serves which slots, and return a link that knows it.

        Nodes are connected to when a stream needs them.

        Raises:
            TransportError: No node answers that it is one of a cluster.
            AuthenticationError: A node refused the credentials, or the user may not ask.

        Cancellation: leaves no socket behind.
        """
        seeds = self._seeds
        connection, slots = await seeds.ask()
        nodes = StreamNodes(slots, seeds.connector, self._opener)
        if seeds.last_asked not in slots.owners:
            await connection.disconnect(nowait=True)
            return ClusterStreamLink(nodes, self._opener)
        try:
            await nodes.adopt(connection, seeds.last_asked)
        except BaseException:
            await nodes.aclose()
            raise
        return ClusterStreamLink(nodes, self._opener)

    async def inspect(self) -> BrokerReport:
        """Connect to each node that serves slots and to each replica, ask for what a fleet should know, and disconnect.

        It changes nothing there.

        Raises:
            TransportError: No node answers, or one that serves slots can't be reached.
            AuthenticationError: A node refused the credentials.

        Cancellation: leaves no socket behind.
        """
        return await self._seeds.inspect(is_log=True)
