"""One attempt to open a link, at each server in turn: `Opener`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar, cast

import nats.errors
from backplane_core import AuthenticationError, ConfigurationError, TransportError
from backplane_core.sockets import Dialer

from backplane_nats._client import TlsClient, close_now, get_info, is_clustered
from backplane_nats._errors import explain
from backplane_nats._inspection import Greeting
from backplane_nats._link import NatsLink
from backplane_nats._providers import Providers
from backplane_nats._servers import Servers
from backplane_nats._settings import Settings
from backplane_nats._split_watch import SplitWatch
from backplane_nats._tls import SharedTls, TlsContextWanted
from backplane_nats._url import Server

__all__ = ["Opener"]

_DEFAULT_MAX_PAYLOAD_BYTES: Final = 1 << 20
"""A NATS server's default; the server's own limit is known after `open`."""

_CONNECT_TIMEOUT_S: Final = 30
"""Core bounds `open` much earlier; this one is for callers that set no bound."""

_CONNECT_TIMEOUT_OF_SEVERAL_S: Final = 2
"""A host that drops packets must leave time for the next one within core's default of five seconds."""

_NEVER_S: Final = 86_400
"""A day: no link of a test or of a pod that probes waits so long."""

_OPTIONS: Final[Mapping[str, Any]] = {
    "name": "backplane",
    "allow_reconnect": False,
    # In case nats-py reconnects all the same: 0 would mean for ever, and the defaults wait for two minutes.
    "max_reconnect_attempts": 1,
    "reconnect_time_wait": 0,
    # Core's beats are the probe.
    "ping_interval": _NEVER_S,
    "no_echo": False,
    # Unbounded: where nats-py waits for room it swallows cancellations. Core's outbox is what bounds them.
    "pending_size": 0,
    "flusher_queue_size": 0,
}


L = TypeVar("L", bound=NatsLink)


class Opener(Generic[L]):
    """Opens one link after another to the servers that the settings name, and to those that they announce.

    Args:
        settings: Which servers, and how.
        kind: Of the links.
    """

    def __init__(self, settings: Settings, kind: type[L]) -> None:
        self._settings = settings
        self._kind = kind
        self._tls = SharedTls(settings.files)
        self._providers = Providers(settings.options)
        self._dialer = Dialer()
        self._servers = Servers(settings)
        self._last: tuple[Server, TlsClient, L] | None = None

    @property
    def max_payload_bytes(self) -> int:
        """What the server said last that a message may have; an account's own limit comes late."""
        return _DEFAULT_MAX_PAYLOAD_BYTES if self._last is None else self._last[1].max_payload

    async def open(self) -> L:
        """Try each server once, and return the first link; see `NatsTransport.open`.

        Raises:
            TransportError: No server can be reached; `retryable=False` where TLS or a file is wrong.
            AuthenticationError: A server refused the credentials, and no other accepted them.
        """
        if self._last is not None:
            server, client, link = self._last
            self._servers.record_announced(server, [found.netloc for found in client.discovered_servers])
            if link.is_split:
                self._servers.put_announced_last(server, client.mesh.here)
            self._servers.put_last(server)
        servers = self._servers.next_order()
        failures: list[TransportError] = []
        for server in servers:
            outcome = await self._attempt(server, alone=len(servers) == 1)
            if not isinstance(outcome, TransportError):
                return outcome
            failures.append(outcome)
        for failure in failures:
            if len(failures) == 1 or isinstance(failure, AuthenticationError):
                raise failure
        raise TransportError(
            f"none of the {len(failures)} servers accepted the connection: {'; '.join(map(str, failures))}",
            retryable=any(failure.retryable for failure in failures),
        )

    async def greet(self) -> Greeting:
        """Return what the server says of itself that is reached first, and disconnect; raises as `open` does."""
        link = await self.open()
        try:
            server, client, _ = cast("tuple[Server, TlsClient, L]", self._last)  # `open` has set it
            return Greeting(
                server=server,
                info=get_info(client),
                nodes=len(client.mesh.here),
                is_clustered=is_clustered(client),
            )
        finally:
            await link.aclose()

    async def _attempt(self, server: Server, *, alone: bool) -> L | TransportError:
        # Failures are returned, not raised inside `except`: an error's __context__ could lead to secrets.
        try:
            options = {**_OPTIONS, **self._settings.connect_options()}
            if self._settings.requires_tls(server) and options.get("tls") is None:
                await self._tls.make()
        except ConfigurationError as error:
            # Retryable, as the file was fine when the transport was made: it may be in the middle of its rotation.
            return TransportError(str(error))
        client = TlsClient(
            require_tls=self._settings.requires_tls(server),
            context=self._tls.context,
            dialer=self._dialer,
            # Until one was reached: a whole fleet that comes back to a busy server would ask it twice more each time.
            asks=self._last is None,
        )
        watch = SplitWatch(client.mesh, server, self._settings.addresses, self._dialer)
        # Where announced servers are left alone there may be no way to the rest of a cluster.
        link = self._kind(client, str(server), watch if self._settings.discovers else None)
        if server.tls_name is not None:
            options.setdefault("tls_hostname", server.tls_name)
        options |= {
            **server.credentials,
            "servers": [server.address],
            "connect_timeout": _CONNECT_TIMEOUT_S if alone else _CONNECT_TIMEOUT_OF_SEVERAL_S,
        }
        # In a task of its own: CPython 3.11's wait_for, which nats-py uses, swallows a cancellation that comes
        # together with the answer.
        attempt = asyncio.create_task(self._connect(link, options))
        is_open = False
        try:
            await asyncio.wait({attempt})
            if self._tls.context is None and isinstance(attempt.exception(), TlsContextWanted):
                return await self._attempt_with_tls(server, alone=alone)
            if (reason := attempt.exception()) is not None:
                return explain(reason, server)
            if not client.is_secure:
                return explain(nats.errors.SecureConnWantedError(), server)
            is_open = True
        finally:
            if not is_open:
                # Also when core gave up waiting: the next time the others come first.
                self._servers.put_last(server)
                await close_now(client, attempt)
        link.watch_cluster()
        self._servers.record_success(server)
        self._last = server, client, link
        return link

    async def _connect(self, link: L, options: Mapping[str, Any]) -> None:
        await link.connect({**options, **await self._providers.answers()})

    async def _attempt_with_tls(self, server: Server, *, alone: bool) -> L | TransportError:
        """Try again at a server that wants TLS although the URL asks for none, and for which no context was made."""
        try:
            await self._tls.make()
        except ConfigurationError as error:
            return TransportError(str(error), retryable=False)
        return await self._attempt(server, alone=alone)
