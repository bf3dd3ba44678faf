"""`NatsBackplane`: a backplane over NATS, without the lookup by URL scheme."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, Unpack

from backplane_core import Connecting, DistributedBackplane, Options

from backplane_nats.transport import NatsTransport

__all__ = ["NatsBackplane"]


class NatsBackplane(DistributedBackplane):
    """A `DistributedBackplane` over a `NatsTransport`. It adds nothing but `connect`."""

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        connection_kwargs: Mapping[str, Any] | None = None,
        address_map: Mapping[str, str] | str | None = None,
        **options: Unpack[Options],
    ) -> Connecting[Self]:
        """Connect to the NATS server or cluster of the URL; the backplane is receiving when this returns.

        `backplane = await NatsBackplane.connect(...)`, or `async with NatsBackplane.connect(...) as backplane:`,
        which closes it at the end.

        Args:
            url: As `NatsTransport` takes it: `nats://host:4222`, `tls://user:password@host`.
            connection_kwargs: Options of nats-py's `connect` that don't fit a URL.
            address_map: As `NatsTransport` takes it.
            options: Those that every backplane has, see `backplane_core.Options`: `channel`, `routing` and so on.

        Returns:
            A backplane to be: await or enter it, once.

        Raises:
            ConfigurationError: The URL or an option is wrong. Raised at once, before anything is opened.
            TransportError: When awaited or entered: the broker can't be reached within `connect_timeout_s`; never with
                `wait=False`.
            AuthenticationError: When awaited or entered: the broker refused the credentials; never with `wait=False`.

        Cancellation: leaves nothing behind; the backplane is closed.
        """
        transport = NatsTransport(url, connection_kwargs=connection_kwargs, address_map=address_map)
        return Connecting(cls(transport, **options))
