"""`RedisBackplane`: a backplane over Redis, by its own name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, Unpack

from backplane_core import Connecting, DistributedBackplane, Options

from backplane_redis.transport import RedisTransport

__all__ = ["RedisBackplane"]


class RedisBackplane(DistributedBackplane):
    """A `DistributedBackplane` over a `RedisTransport`; nothing is added."""

    @classmethod
    def connect(
        cls, url: str, *, connection_kwargs: Mapping[str, Any] | None = None, **options: Unpack[Options]
    ) -> Connecting[Self]:
        """Await or enter it: a backplane that is receiving.

        Args:
            url: See `RedisTransport`.
            connection_kwargs: For the client library, what does not fit a URL.
            options: As `backplane_core.connect`: `channel`, `routing` and the others.

        Raises:
            ConfigurationError: The URL or an option is wrong. Raised here, before anything is opened.
            TransportError: When awaited: the broker can't be reached within `connect_timeout_s`.
            AuthenticationError: When awaited: it refused the credentials.
        """
        return Connecting(cls(RedisTransport(url, connection_kwargs=connection_kwargs), **options))
