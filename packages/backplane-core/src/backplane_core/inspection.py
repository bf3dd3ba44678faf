"""What a transport can say of its broker to those who operate it: `BrokerReport`, `InspectableTransport`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from attrs import frozen

__all__ = ["BrokerReport", "InspectableTransport"]


@frozen(kw_only=True)
class BrokerReport:
    """What a broker says of itself, without secrets.

    Args:
        server: What it is, with its version, for people.
        advice: Settings under which it does less than a fleet may count on, and what to set; one sentence each.
        unasked: What this user may not ask, and what to grant so that it is known; one sentence each.
    """

    server: str
    advice: Sequence[str] = ()
    unasked: Sequence[str] = ()


@runtime_checkable
class InspectableTransport(Protocol):
    """A transport that knows which settings of its broker matter. No backplane asks for it; `backplane doctor` does."""

    async def inspect(self) -> BrokerReport:
        """Connect, ask the broker about itself, and disconnect. It changes nothing there.

        Raises:
            TransportError: The broker can't be reached, or closed the connection.
            AuthenticationError: The broker refused the credentials.

        Cancellation: leaves no socket and no task behind.
        """
        ...
