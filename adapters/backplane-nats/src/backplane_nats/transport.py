"""NATS as a `backplane_core` transport: `NatsTransport`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import evolve
from backplane_core import BrokerReport, Link, Traits

from backplane_nats._link import AnnouncingNatsLink, NatsLink
from backplane_nats._opener import Opener
from backplane_nats._settings import REPORTS_LAME_DUCK, Settings

__all__ = ["NatsTransport"]

_TRAITS: Final = Traits(single_stream=True, nodes="several", announces_leave=REPORTS_LAME_DUCK)
"""`several` also for a server that is alone: it may join a cluster while links to it live."""


class NatsTransport:
    """Opens links to one NATS server or cluster; constructing it opens nothing.

    Args:
        url: `nats://user:password@host:4222`, `nats://token@host`, several as `nats://a,b:4223`, then
            `?creds=/path` or `?nkey=/path`, and `ca=/path/ca.pem`. `tls://` insists on TLS, and so does any TLS option.
            Percent-encode user, password and token. Servers that the cluster announces are tried as well, unless
            `ignore_discovered_servers=true`.
        connection_kwargs: Options of nats-py's `connect` that don't fit a URL: `tls` (an `SSLContext`),
            `user_jwt_cb`, `signature_cb`, `nkeys_seed_str`, a callable for `password` ...
        address_map: Where the servers that a cluster announces can be reached, if not there: `announced=reachable`,
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
        self._settings = Settings.parse(url, connection_kwargs, address_map)
        self._opener = Opener(self._settings, AnnouncingNatsLink if REPORTS_LAME_DUCK else NatsLink)
        self._traits = _TRAITS

    def __repr__(self) -> str:
        return f"NatsTransport({','.join(map(str, self._settings.servers))!r})"

    @property
    def traits(self) -> Traits:
        """What NATS can do; `max_payload_bytes` is what the server said last: an account's own limit comes late."""
        if self._opener.max_payload_bytes != self._traits.max_payload_bytes:
            self._traits = evolve(_TRAITS, max_payload_bytes=self._opener.max_payload_bytes)
        return self._traits

    async def open(self) -> Link:
        """Try each server once, and return the first link.

        The URL's servers come first, then those that the cluster announced, both in random order (in their own order
        with `dont_randomize`). Servers that failed, and the previous link's, come last.

        Raises:
            TransportError: No server can be reached; `retryable=False` where TLS or a file is wrong.
            AuthenticationError: A server refused the credentials, and no other accepted them.

        Cancellation: leaves no socket and no task behind.
        """
        return await self._opener.open()

    async def inspect(self) -> BrokerReport:
        """Connect to a server, ask for what a fleet should know of it, and disconnect; it changes nothing there.

        Raises:
            TransportError: No server can be reached.
            AuthenticationError: A server refused the credentials, and no other accepted them.

        Cancellation: leaves no socket and no task behind.
        """
        return (await self._opener.greet()).report()
