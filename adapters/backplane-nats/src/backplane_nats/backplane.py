"""`NatsBackplane`: a backplane over Nats, by its own name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, Unpack

from backplane_core import Connecting, DistributedBackplane, Options

from backplane_nats.transport import NatsTransport

__all__ = ["NatsBackplane"]


class NatsBackplane(DistributedBackplane):
    """A `DistributedBackplane` over a `NatsTransport`; nothing is added."""

    @classmethod
    def connect(
        cls, url: str, *, connection_kwargs: Mapping[str, Any] | None = None, **options: Unpack[Options]
    ) -> Connecting[Self]:
        """Await or enter it: a backplane that is receiving.

        Args:
            url: See `NatsTransport`.
            connection_kwargs: For the client library, what does not fit a URL.
            options: As `backplane_core.connect`: `channel`, `routing` and the others.

        Raises:
            ConfigurationError: The URL or an option is wrong. Raised here, before anything is opened.
            TransportError: When awaited: the broker can't be reached within `connect_timeout_s`.
            AuthenticationError: When awaited: it refused the credentials.
        """
        return Connecting(cls(NatsTransport(url, connection_kwargs=connection_kwargs), **options))
