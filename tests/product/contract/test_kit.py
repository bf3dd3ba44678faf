"""The kit itself: what it lists, what it asks of a harness, and that it needs no test runner."""

from __future__ import annotations

import ast
import pickle
from pathlib import Path
from typing import Any

import backplane_core.testing
import pytest
from attrs import define
from backplane_core.testing import FLEET_CHECKS, LINK_CHECKS, OUTAGE_CHECKS, ContractError

from tests.product.contract.harnesses import MemoryHarness

CHECKS: dict[str, Any] = {check.__name__: check for check in (*LINK_CHECKS, *FLEET_CHECKS)}
OUTAGES = {check.__name__ for check in OUTAGE_CHECKS}
PLUGIN = "pytest_plugin.py"  # not of the kit: a host's tests opt into it
MODULES = [path for path in sorted(Path(backplane_core.testing.__file__).parent.glob("*.py")) if path.name != PLUGIN]


@define
class CountingHarness(MemoryHarness):
    """Counts what it is asked for."""

    cuts: int = 0
    restores: int = 0

    async def cut(self) -> None:
        self.cuts += 1
        await super().cut()

    async def restore(self) -> None:
        self.restores += 1
        await super().restore()


@pytest.mark.parametrize("check", [*CHECKS])
async def test_only_the_outage_checks_cut_the_broker_and_each_restores_it(check: str) -> None:
    harness = CountingHarness()
    await CHECKS[check](harness)
    assert (harness.cuts > 0) == (check in OUTAGES)
    assert harness.restores == harness.cuts


def test_the_lists_hold_every_public_check_once() -> None:
    public = [name for name in backplane_core.testing.__all__ if name.startswith("check_")]
    assert sorted(check.__name__ for check in (*LINK_CHECKS, *FLEET_CHECKS)) == public
    assert OUTAGES.issubset(CHECKS)


@pytest.mark.parametrize("check", [*CHECKS])
def test_every_check_states_its_promise_in_one_line(check: str) -> None:
    first, _, rest = CHECKS[check].__doc__.partition("\n")
    assert first.endswith(".")
    assert not rest.strip()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_the_kit_needs_no_test_runner(path: Path) -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert imported.isdisjoint({"pytest", "_pytest", "unittest", "tests"})


def test_a_contract_error_says_all_and_crosses_processes() -> None:
    error = ContractError("one frame", "two", "Link.receive", "Each frame comes once.")
    copy = pickle.loads(pickle.dumps(error))
    for each in (error, copy):
        assert str(each).splitlines() == [
            "broken promise: Each frame comes once.",
            "  expected: one frame",
            "  got:      two",
            "  look at:  Link.receive",
        ]
    assert isinstance(error, AssertionError)
