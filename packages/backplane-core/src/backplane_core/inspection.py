"""What a transport can report about its broker, for operators: `Access`, `BrokerReport`, `InspectableTransport`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Protocol, runtime_checkable

from attrs import frozen

__all__ = ["Access", "BrokerReport", "InspectableTransport"]

_LOOPBACK: Final = re.compile(r"localhost|127\..*|::1")


@frozen(kw_only=True)
class BrokerReport:
    """What a broker reports about itself, without secrets.

    Args:
        server: The kind of server and its version, as text for people.
        advice: Settings that weaken what a fleet can rely on, and what to set instead; one sentence each.
        unasked: What this user has no permission to read, and what to grant; one sentence each.
    """

    server: str
    advice: Sequence[str] = ()
    unasked: Sequence[str] = ()


@frozen(kw_only=True)
class Access:
    """How a broker is reached, for a report.

    Args:
        host: Its name or address; None: it is reached over a socket of this machine.
        has_login: Whether clients say who they are.
        uses_tls: Whether the line is encrypted.
        tls_scheme: What URLs begin with where it is, as `rediss`.
    """

    host: str | None
    has_login: bool
    uses_tls: bool
    tls_scheme: str

    @property
    def advice(self) -> Sequence[str]:
        """What to change, one sentence each. Nothing where it is on this machine, as nobody else reads that line."""
        if self.host is None or _LOOPBACK.fullmatch(self.host):
            return ()
        found: list[str] = []
        if not self.has_login:
            found.append(
                "it lets clients in without credentials, and anyone who can publish there reaches every connection: "
                "give the pods a user of their own, or sign their frames (signing_keys)"
            )
        if not self.uses_tls:
            found.append(
                f"the line to it is not encrypted: set up TLS and use {self.tls_scheme}://, unless the network is yours"
            )
        return found


@runtime_checkable
class InspectableTransport(Protocol):
    """A transport that can inspect its broker's settings. Only `backplane doctor` uses it, never a backplane itself."""

    async def inspect(self) -> BrokerReport:
        """Connect, read the broker's version and settings, and disconnect; change nothing there.

        Raises:
            TransportError: The broker can't be reached, or closed the connection.
            AuthenticationError: The broker refused the credentials.

        Cancellation: leaves no socket and no task behind.
        """
        ...
