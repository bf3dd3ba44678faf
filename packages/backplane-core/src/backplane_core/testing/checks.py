"""The checks of the contract kit: `LINK_CHECKS`, `FLEET_CHECKS`, which of them cut the broker, and each by its name."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Final

from backplane_core.testing._checks import FLEET, LINK, OUTAGE
from backplane_core.testing.harness import FleetCheck, LinkCheck

__all__ = ["FLEET_CHECKS", "LINK_CHECKS", "OUTAGE_CHECKS", "find_check"]

LINK_CHECKS: Final[tuple[LinkCheck, ...]] = tuple(LINK.values())
"""The checks on links, simplest first: `await check(harness)`."""

FLEET_CHECKS: Final[tuple[FleetCheck, ...]] = tuple(FLEET.values())
"""The checks on backplanes over the transport: `await check(harness, routing)`, for both routings."""

OUTAGE_CHECKS: Final[frozenset[LinkCheck | FleetCheck]] = frozenset(OUTAGE.values())
"""Those of both that cut the broker. All the others can run on a broker that other tests use at the same time."""


def find_check(name: str) -> LinkCheck | FleetCheck:
    """Return the check of that name, to run it alone.

    Args:
        name: The check's name, as a failure and the reference give it.

    Raises:
        LookupError: No check has that name; the message suggests similar names.
    """
    known: dict[str, LinkCheck | FleetCheck] = {**LINK, **FLEET}
    check = known.get(name)
    if check is None:
        similar = ", ".join(get_close_matches(name, known)) or "none"
        raise LookupError(f"no check is called {name!r}; similar names: {similar}")
    return check
