"""The index of the contract kit: each check enters it where it is defined."""

from __future__ import annotations

from collections.abc import Awaitable
from functools import wraps
from typing import Final, TypeVar

from backplane_core._protocol.routing import RoutingName
from backplane_core.testing.harness import ContractError, FleetCheck, Harness, LinkCheck

__all__ = ["FLEET", "LINK", "OUTAGE", "cuts_the_broker", "fleet_check", "link_check"]

Check = TypeVar("Check", LinkCheck, FleetCheck)

LINK: Final[dict[str, LinkCheck]] = {}
"""The checks on links by name, in the order in which the modules of `_checks` define them."""

FLEET: Final[dict[str, FleetCheck]] = {}
"""The checks on fleets by name."""

OUTAGE: Final[dict[str, LinkCheck | FleetCheck]] = {}
"""The checks of both kinds that cut the broker."""


def link_check(check: LinkCheck) -> LinkCheck:
    """Enter a check on links into the index. The first line of its docstring is the promise that its errors name."""

    @wraps(check)
    async def run(harness: Harness) -> None:
        await _naming_its_promise(check(harness), check.__doc__)

    _enter(LINK, check.__name__, run)
    return run


def fleet_check(check: FleetCheck) -> FleetCheck:
    """Enter a check on fleets into the index. The first line of its docstring is the promise that its errors name."""

    @wraps(check)
    async def run(harness: Harness, routing: RoutingName = "broadcast") -> None:
        await _naming_its_promise(check(harness, routing), check.__doc__)

    _enter(FLEET, check.__name__, run)
    return run


def cuts_the_broker(check: Check) -> Check:
    """Mark a check of the index as one that calls `Harness.cut`."""
    _enter(OUTAGE, check.__name__, check)
    return check


def _enter(index: dict[str, Check], name: str, check: Check) -> None:
    if name in index:
        raise ValueError(f"two checks are called {name}")
    index[name] = check


async def _naming_its_promise(check: Awaitable[None], docstring: str | None) -> None:
    promise = (docstring or "").partition("\n")[0]
    try:
        await check
    except ContractError as error:
        error.promise = promise
        error.args = (error.expected, error.got, error.look_at, promise)
        raise
