"""`StreamsTransport`: opens links to Redis Streams, which keep what is published for a while."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from backplane_core import BrokerReport, QueueLink, Retention, Traits, TransportError

from backplane_redis._connection import LinkConnection
from backplane_redis._inspection import inspect_node
from backplane_redis._kinds import NodeChecker
from backplane_redis._opening import Connector
from backplane_redis._reaching import Reaching
from backplane_redis._streams.link import StreamLink
from backplane_redis._streams.opening import RETAIN_BYTES, RETAIN_ENTRIES, RETAIN_S, TRAITS, StreamOpener
from backplane_redis._streams.queues import StreamQueues
from backplane_redis._streams.session import Session
from backplane_redis._streams.session_source import ServerSessions
from backplane_redis._together import both
from backplane_redis._url import RedisUrl, format_address

__all__ = ["StreamsTransport"]


class StreamsTransport:
    """Opens links to the streams of one Redis or Valkey server; constructing it opens nothing.

    Each lane of the fleet is one stream, named after its channel. A pod that lost its link, or whose server restarted,
    goes on where it was. Needs Redis 7.0 or Valkey.

    Args:
        url: `redis+streams://user:password@host:6379/0`, or with `rediss+streams` (TLS), `valkey+streams`,
            `valkeys+streams` (TLS). Options go into the query: `?client_name=pod-7`.
        connection_kwargs: Options of redis-py's connection that don't fit a URL; the URL's own win.
        retain_entries: Entries that each stream keeps. Default: 100,000. With 8 lanes and 2,000 events a second that is
            six minutes; a pod that was cut off for longer reports a gap.
        retain_bytes: Bytes of the server's memory that each stream takes; None: no limit but the others. Default: 16
            MiB, so that 8 lanes and the shared one take at most some 150 MiB.
        retain_s: Seconds for which a stream keeps an entry, by the server's clock; None: no limit but the others.
            Default: 600, longer than any restart. Looked at each five seconds, by those that write.

    Raises:
        ConfigurationError: The URL or an option is wrong. The message says what is allowed and shows no secret.
    """

    def __init__(
        self,
        url: str,
        *,
        connection_kwargs: Mapping[str, Any] | None = None,
        retain_entries: int | str = RETAIN_ENTRIES,
        retain_bytes: int | str | None = RETAIN_BYTES,
        retain_s: float | str | None = RETAIN_S,
    ) -> None:
        self._url = RedisUrl.parse_streams(url)
        retention = Retention.parse(entries=retain_entries, max_bytes=retain_bytes, age_s=retain_s)
        reaching = Reaching.parse(self._url, connection_kwargs, announces=False)
        self._connector = Connector.to_server(self._url, reaching)
        self._checker = NodeChecker()
        self._opener = StreamOpener(retention)

    def __repr__(self) -> str:
        return f"StreamsTransport('{self._url}')"

    @property
    def traits(self) -> Traits:
        """`durable`, and what Redis takes at most."""
        return TRAITS

    async def open(self) -> QueueLink:
        """Open both connections of a link, in one attempt.

        Raises:
            TransportError: The server can't be reached, TLS or the handshake failed, or it is a replica.
            AuthenticationError: The server refused the credentials.

        Cancellation: leaves no socket behind.
        """
        address = self._url.hosts[0]
        where = format_address(address)
        async with AsyncExitStack() as stack:
            connection = await self._connector.open(address)
            writing = Session(connection, where)
            stack.push_async_callback(writing.aclose)
            reading, _ = await both(self._open_reading(stack), self._check(connection, writing))
            reader, writer = await self._opener.ends(writing, reading)
            stack.pop_all()  # the link owns both from here on
        return StreamLink(
            writing, reading, reader, writer, StreamQueues(writing, ServerSessions(self._connector, address))
        )

    async def inspect(self) -> BrokerReport:
        """Connect to the server, ask for what a fleet should know of it, and disconnect; it changes nothing there.

        Raises:
            TransportError: It can't be reached, or closed the connection.
            AuthenticationError: It refused the credentials.

        Cancellation: leaves no socket behind.
        """
        address = self._url.hosts[0]
        connection = await self._connector.open(address)
        return await inspect_node(connection, address, self._connector.access(address), is_log=True)

    async def _open_reading(self, stack: AsyncExitStack) -> Session:
        reading = Session(await self._connector.open(self._url.hosts[0]), format_address(self._url.hosts[0]))
        stack.push_async_callback(reading.aclose)
        return reading

    async def _check(self, connection: LinkConnection, session: Session) -> None:
        where = session.where
        if connection.greeting.mode == "cluster":
            raise TransportError(
                f"can't use Redis at {where}: it is a node of a cluster: connect with redis-cluster+streams://",
                retryable=False,
            )
        await self._checker.check(connection, where)
        await self._opener.check(session)
