"""The kit catches what it is there for: each broken transport, by the check that names its promise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from backplane_core import Transport
from backplane_core.testing import (
    FLEET_CHECKS,
    LINK_CHECKS,
    ContractError,
    Faults,
    FaultyTransport,
    MemoryBroker,
)
from backplane_core.testing._kit import waiting

from tests.product.contract.broken_lateness import ConfirmsLate
from tests.product.contract.harnesses import MemoryHarness
from tests.product.contract.mutants import MUTANTS, Mutant
from tests.product.contract.sound import Sound

pytestmark = pytest.mark.thorough  # of the kit, not of a transport

LINK: dict[str, Any] = {check.__name__: check for check in LINK_CHECKS}
FLEET: dict[str, Any] = {check.__name__: check for check in FLEET_CHECKS}
CHECKS = LINK | FLEET
CATCHES = [
    pytest.param(mutant, check, id=f"{mutant.fault.__name__}-{check}")
    for mutant in MUTANTS
    for check in mutant.caught_by
]


@pytest.fixture
def short_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    """What hangs does so for ever, and nothing here waits for a network."""
    monkeypatch.setattr(waiting, "DEADLINE_S", 0.3)
    monkeypatch.setattr(waiting, "ABANDON_S", 0.1)


@pytest.mark.usefixtures("short_deadlines")
@pytest.mark.parametrize(("mutant", "check"), CATCHES)
async def test_a_broken_transport_is_caught_by_the_check_of_its_promise(mutant: Mutant, check: str) -> None:
    arguments = (mutant.routing,) if check in FLEET else ()
    harness = MemoryHarness(mutant.transport)
    with pytest.raises(ContractError) as caught:
        await CHECKS[check](harness, *arguments)
    said = str(caught.value)
    assert said.startswith(f"broken promise: {CHECKS[check].__doc__.splitlines()[0]}")
    assert all(f"{word}:" in said for word in ("expected", "got", "look at"))
    await harness.broker.open().aclose()  # raises if the check left the broker cut


def scattered(broker: MemoryBroker) -> Transport:
    """A broker that confirms late, and subscribes the channels of one call one by one, in any order."""
    return FaultyTransport(broker, faults=Faults(confirm_s=0.01, deliver_s=0.002, scatter_s=0.02, nodes=3))


HONEST = {"sound": Mutant(Sound, ()).transport, "late": Mutant(ConfirmsLate, ()).transport, "scattered": scattered}


@pytest.mark.parametrize("transport", HONEST.values(), ids=[*HONEST])
@pytest.mark.parametrize("check", [*CHECKS])
async def test_what_is_honest_passes_and_so_does_what_is_late_or_out_of_order(
    leaves_nothing: None, check: str, transport: Callable[[MemoryBroker], Transport]
) -> None:
    arguments = ("interest",) if check in FLEET else ()
    await CHECKS[check](MemoryHarness(transport), *arguments)


def test_every_check_catches_something() -> None:
    assert {check for mutant in MUTANTS for check in mutant.caught_by} == {*CHECKS}
