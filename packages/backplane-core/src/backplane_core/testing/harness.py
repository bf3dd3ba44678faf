"""What the author of a transport gives to the contract kit, and what it reports: `Harness`, `ContractError`."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from backplane_core._protocol.routing import RoutingName
from backplane_core.transport import Transport

__all__ = ["ContractError", "FleetCheck", "Harness", "LinkCheck"]


class Harness(Protocol):
    """One broker that can be cut: all that the checks need, as three methods that you write.

    Checks use random channel names, so other tests may use the broker at the same time. Only the checks of
    `OUTAGE_CHECKS` call `cut`, and each of them calls `restore` before it ends, whatever happens.
    """

    def make(self) -> Transport:
        """Return a new transport to the broker. In a cluster all transports of one harness connect to the same node."""
        ...

    async def cut(self) -> None:
        """Take the broker away, as if it were killed: every open link's socket is closed, and none can be opened."""
        ...

    async def restore(self) -> None:
        """Bring the broker back, and return once it accepts connections. A no-op if it was not cut."""
        ...


class ContractError(AssertionError):
    """A transport broke a promise. Read `look_at` first: it names the method, or the setting, that is probably wrong.

    Args:
        expected: What should have happened.
        got: What happened instead.
        look_at: Where to look in the transport.
        promise: The broken promise: the first line of the check's docstring.
    """

    def __init__(self, expected: str, got: str, look_at: str, promise: str = "") -> None:
        super().__init__(expected, got, look_at, promise)
        self.expected: str = expected
        self.got: str = got
        self.look_at: str = look_at
        self.promise: str = promise

    def __str__(self) -> str:
        return (
            f"broken promise: {self.promise or 'a transport does what it is asked'}\n"
            f"  expected: {self.expected}\n"
            f"  got:      {self.got}\n"
            f"  look at:  {self.look_at}"
        )


class LinkCheck(Protocol):
    """A check on links: it opens some and uses them."""

    @property
    def __name__(self) -> str:
        """The check's name."""
        ...

    def __call__(self, harness: Harness) -> Coroutine[Any, Any, None]:
        """Run the check.

        Args:
            harness: The broker under test.

        Raises:
            ContractError: The transport breaks the promise.
        """
        ...


class FleetCheck(Protocol):
    """A check on backplanes over the transport."""

    @property
    def __name__(self) -> str:
        """The check's name."""
        ...

    def __call__(self, harness: Harness, routing: RoutingName = "broadcast") -> Coroutine[Any, Any, None]:
        """Run the check under one routing.

        Args:
            harness: The broker under test.
            routing: `"broadcast"` or `"interest"`; run the check under both.

        Raises:
            ContractError: The transport breaks the promise.
        """
        ...
