"""`SentinelStreamsTransport`: opens links to the streams of the master that sentinels name."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from backplane_core import BrokerReport, QueueLink, Retention, Traits, TransportError

from backplane_redis._inspection import inspect_node
from backplane_redis._sentinel.service import SentinelService
from backplane_redis._sentinel.stream_link import SentinelStreamLink
from backplane_redis._sentinel.watch import Master
from backplane_redis._streams.opening import RETAIN_BYTES, RETAIN_ENTRIES, RETAIN_S, TRAITS, StreamOpener
from backplane_redis._streams.queues import StreamQueues
from backplane_redis._streams.replicas import ask_for_replicas
from backplane_redis._streams.session import Session
from backplane_redis._streams.session_source import ServerSessions
from backplane_redis._together import both
from backplane_redis._url import RedisUrl, format_address

__all__ = ["SentinelStreamsTransport"]


class SentinelStreamsTransport:
    """Opens links to the streams of whichever node the sentinels name as master; constructing it opens nothing.

    A failover costs a connection nothing as long as publishers live and still have what the new master lacks: see
    `resend_s`. Needs Redis 7.0 or Valkey.

    Args:
        url: `redis+sentinel+streams://user:password@host1:26379,host2:26379/service/0`, or with
            `rediss+sentinel+streams` (TLS), `valkey+sentinel+streams`, `valkeys+sentinel+streams` (TLS): the URL of
            `SentinelTransport` with `+streams` behind its scheme.
        connection_kwargs: As `SentinelTransport`.
        address_map: As `SentinelTransport`.
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
        self._url = RedisUrl.parse_sentinel_streams(url)
        retention = Retention.parse(entries=retain_entries, max_bytes=retain_bytes, age_s=retain_s)
        self._service = SentinelService(self._url, connection_kwargs, address_map)
        self._opener = StreamOpener(retention, is_replicated=True)

    def __repr__(self) -> str:
        return f"SentinelStreamsTransport('{self._url}')"

    @property
    def traits(self) -> Traits:
        """`durable`, and what Redis takes at most."""
        return TRAITS

    async def open(self) -> QueueLink:
        """Ask the sentinels for the master, and open both connections of a link to it, in one attempt.

        Raises:
            TransportError: No sentinel answers or knows the service, or the master can't be reached, or is a replica.
            AuthenticationError: The sentinels, or the master, refused the credentials.

        Cancellation: leaves no socket behind.
        """
        async with AsyncExitStack() as stack:  # closes each, also if this is cancelled at another one
            master = await self._service.find(stack)
            writing = await self._open_session(master, stack)
            reading, _ = await both(self._open_session(master, stack), self._opener.check(writing))
            reader, writer = await self._opener.ends(writing, reading)
            stack.pop_all()  # the link owns every socket from here on
            queues = StreamQueues(writing, ServerSessions(self._service.connector, master.address))
            return SentinelStreamLink(writing, reading, reader, writer, queues, master)

    async def _open_session(self, master: Master, stack: AsyncExitStack) -> Session:
        session = Session(await self._service.connect(master), format_address(master.address))
        stack.push_async_callback(session.aclose)
        return session

    async def inspect(self) -> BrokerReport:
        """Connect to the master and to each of its replicas, ask for what a fleet should know, and disconnect.

        It changes nothing there.

        Raises:
            TransportError: The master can't be reached, or closed the connection.
            AuthenticationError: It, or the sentinels, refused the credentials.

        Cancellation: leaves no socket behind.
        """
        service = self._service
        async with AsyncExitStack() as stack:
            master = await service.find(stack)
            asked = await service.connect(master)
            stack.push_async_callback(asked.disconnect, nowait=True)
            replicas = await ask_for_replicas(asked, format_address(master.address))
            access = service.access(master.address)
            connection = await service.connect(master)
            report = await inspect_node(connection, master.address, access, is_log=True, is_replicated=True)
            advice, unasked = [*report.advice], [*report.unasked]
            for address in replicas:
                try:
                    opened = await service.connector.open(address)
                    access = service.access(address)
                    replica = await inspect_node(opened, address, access, is_log=True, is_replicated=True)
                except TransportError as error:
                    unasked.append(f"the replica at {format_address(address)}: {error}")
                    continue
                advice += replica.advice
                unasked += replica.unasked
        return BrokerReport(server=f"{report.server}, {len(replicas)} replicas", advice=advice, unasked=unasked)
