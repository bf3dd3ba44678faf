"""What the author of a transport provides, and what the kit reports: `Harness`, `ContractError`."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from backplane_core._protocol.routing import RoutingName
from backplane_core.transport import Transport

__all__ = ["ContractError", "FleetCheck", "Harness", "LinkCheck"]


class Harness(Protocol):
    """One broker, and the means to take it away. The checks need only these three methods.

    Checks use random channel names, so the broker may be shared; only those in `OUTAGE_CHECKS` call `cut`, and each of
    them calls `restore` before it ends, whatever happens.
    """

    def make(self) -> Transport:
        """Return a new transport to the broker. All of one harness hear each other, on one node of a cluster."""
        ...

    async def cut(self) -> None:
        """Take the broker away, like a killed server: every open link's socket is closed, and none can be opened."""
        ...

    async def restore(self) -> None:
        """Bring the broker back, and return once it accepts connections. Do nothing if it was not cut."""
        ...


class ContractError(AssertionError):
    """A transport broke a promise.

    Args:
        expected: What should have happened.
        got: What happened instead.
        look_at: Where the author of the transport should look.
        promise: The broken promise: the first line of the check's docstring.
    """

    def __init__(self, expected: str, got: str, look_at: str, promise: str = "") -> None:
        super().__init__(expected, got, look_at, promise)
        self.expected = expected
        self.got = got
        self.look_at = look_at
        self.promise = promise

    def __str__(self) -> str:
        return (
            f"broken promise: {self.promise or 'a transport does what it is asked'}\n"
            f"  expected: {self.expected}\n"
            f"  got:      {self.got}\n"
            f"  look at:  {self.look_at}"
        )


class LinkCheck(Protocol):
    """A check on the transport itself: it opens links and uses them."""

    @property
    def __name__(self) -> str:
        """The check's name."""
        ...

    def __call__(self, harness: Harness) -> Coroutine[Any, Any, None]:
        """Run the check."""
        ...


class FleetCheck(Protocol):
    """A check on backplanes over the transport."""

    @property
    def __name__(self) -> str:
        """The check's name."""
        ...

    def __call__(self, harness: Harness, routing: RoutingName = "broadcast") -> Coroutine[Any, Any, None]:
        """Run the check with one routing."""
        ...
