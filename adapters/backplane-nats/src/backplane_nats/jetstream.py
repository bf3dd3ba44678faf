"""`JetStreamTransport`: opens links to JetStream's streams, which keep what is published for a while."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from attrs import evolve
from backplane_core import BrokerReport, ConfigurationError, QueueLink, Retention, Traits

from backplane_nats._jetstream.api import JetStreamApi
from backplane_nats._jetstream.connection import JetStreamConnection
from backplane_nats._jetstream.definition import make_definition
from backplane_nats._jetstream.link import JetStreamLink
from backplane_nats._jetstream.pages import PageReader
from backplane_nats._jetstream.queues import JetStreamQueues
from backplane_nats._jetstream.reader import StreamReader
from backplane_nats._jetstream.writer import StreamWriter
from backplane_nats._opener import Opener
from backplane_nats._settings import Settings

__all__ = ["JetStreamTransport"]

RETAIN_ENTRIES: Final = 100_000
RETAIN_BYTES: Final = 16 * 1024 * 1024
RETAIN_S: Final = 600.0

logger: Final = logging.getLogger("backplane")

_SUFFIX: Final = "+jetstream"
_TRAITS: Final = Traits(durable=True, nodes="several", queues=True)


class JetStreamTransport:
    """Opens links to the streams of one NATS server or cluster with JetStream; constructing it opens nothing.

    Each lane of the fleet is one stream, named after its channel. A pod that lost its link, or whose server restarted,
    goes on where it was.

    Args:
        url: `nats+jetstream://user:password@host:4222`, or `tls+jetstream://`, which insists on TLS; else as
            `NatsTransport` takes it.
        connection_kwargs: Options of nats-py's `connect` that don't fit a URL.
        address_map: As `NatsTransport` takes it.
        retain_entries: Entries that each stream keeps. Default: 100,000. With 8 lanes and 2,000 events a second that is
            six minutes; a pod that was cut off for longer reports a gap.
        retain_bytes: Bytes that each stream takes on the server's disk, or in its memory; None: no limit but the
            others. Default: 16 MiB, so that 8 lanes and the shared one take at most some 150 MiB.
        retain_s: Seconds for which a stream keeps an entry, by the server's clock; None: no limit but the others.
            Default: 600, longer than any restart.
        storage: `file` (default), or `memory`: nothing is left after a restart of a server that is alone, and
            publishers send again what they still have.
        replicas: On how many nodes of a cluster each stream is, from 1 (default) to 5. With 3 it outlives the loss of
            any one node. A fleet's pods must agree; those that start last adjust the streams to theirs.

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
        storage: str = "file",
        replicas: int | str = 1,
    ) -> None:
        scheme, separator, rest = url.partition("://")
        if not separator or not scheme.endswith(_SUFFIX):
            raise ConfigurationError(f"a URL of JetStream starts with nats{_SUFFIX}:// or tls{_SUFFIX}://")
        self._settings = Settings.parse(f"{scheme.removesuffix(_SUFFIX)}://{rest}", connection_kwargs, address_map)
        self._definition = make_definition(
            Retention.parse(entries=retain_entries, max_bytes=retain_bytes, age_s=retain_s), storage, replicas
        )
        self._opener = Opener(self._settings, JetStreamConnection)
        self._traits = _TRAITS
        self._has_warned = False

    def __repr__(self) -> str:
        servers = ",".join(map(str, self._settings.servers)).replace("://", f"{_SUFFIX}://")
        return f"JetStreamTransport({servers!r})"

    @property
    def traits(self) -> Traits:
        """`durable`; `max_payload_bytes` is what the server said last."""
        if self._opener.max_payload_bytes != self._traits.max_payload_bytes:
            self._traits = evolve(_TRAITS, max_payload_bytes=self._opener.max_payload_bytes)
        return self._traits

    async def open(self) -> QueueLink:
        """Try each server once, and return the first link.

        Raises:
            TransportError: No server can be reached; `retryable=False` where TLS or a file is wrong.
            AuthenticationError: A server refused the credentials, and no other accepted them.

        Cancellation: leaves no socket and no task behind.
        """
        connection = await self._opener.open()
        if not self._has_warned:
            self._has_warned = True
            for weakness in self._definition.find_weaknesses(is_clustered=connection.is_clustered):
                logger.warning("JetStream at %s: %s", connection.where, weakness)
        api = JetStreamApi(connection, self._definition)
        return JetStreamLink(
            connection,
            StreamReader(connection, api),
            StreamWriter(connection, api),
            PageReader(api),
            JetStreamQueues(connection, api),
        )

    async def inspect(self) -> BrokerReport:
        """Connect to a server, ask for what a fleet should know of it, and disconnect; it changes nothing there.

        Raises:
            TransportError: No server can be reached.
            AuthenticationError: A server refused the credentials, and no other accepted them.

        Cancellation: leaves no socket and no task behind.
        """
        greeting = await self._opener.greet()
        weaknesses = self._definition.find_weaknesses(is_clustered=greeting.is_clustered)
        if greeting.info and not greeting.info.get("jetstream"):
            weaknesses = ["it has no JetStream: start it with -js, or with jetstream {} in its configuration"]
        return greeting.report(weaknesses)
