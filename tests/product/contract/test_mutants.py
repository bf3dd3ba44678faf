"""The kit catches what it is there for: each broken transport, by the check that names its promise."""

from __future__ import annotations

from typing import Any

import pytest
from backplane_core.testing import FLEET_CHECKS, LINK_CHECKS, ContractError
from backplane_core.testing._kit import waiting

from tests.product.contract.harnesses import MemoryHarness
from tests.product.contract.mutants import MUTANTS, Mutant
from tests.product.contract.sound import Sound

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


@pytest.mark.parametrize("check", [*CHECKS])
async def test_what_the_mutants_are_made_of_is_sound(leaves_nothing: None, check: str) -> None:
    arguments = ("interest",) if check in FLEET else ()
    await CHECKS[check](MemoryHarness(Mutant(Sound, ()).transport), *arguments)


def test_every_check_catches_something() -> None:
    assert {check for mutant in MUTANTS for check in mutant.caught_by} == {*CHECKS}
