"""The kit itself: what it lists, what it asks of a harness, and that it needs no test runner."""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import backplane_core.testing
import pytest
from attrs import define
from backplane_core.testing import FLEET_CHECKS, LINK_CHECKS, OUTAGE_CHECKS, ContractError, find_check
from backplane_core.testing._kit.index import link_check

from tests.product.contract.harnesses import MemoryHarness

CHECKS: dict[str, Any] = {check.__name__: check for check in (*LINK_CHECKS, *FLEET_CHECKS)}
OUTAGES = {check.__name__ for check in OUTAGE_CHECKS}
TESTING = Path(backplane_core.testing.__file__).parent


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


def test_the_lists_hold_every_check_that_is_defined_once() -> None:
    defined = [
        node.name
        for path in TESTING.glob("_checks/*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("check_")
    ]
    assert sorted(check.__name__ for check in (*LINK_CHECKS, *FLEET_CHECKS)) == sorted(defined)
    assert OUTAGES.issubset(CHECKS)


def test_no_two_checks_share_a_name() -> None:
    with pytest.raises(ValueError, match="check_a_cut_ends_receive"):
        link_check(find_check("check_a_cut_ends_receive"))


def test_a_check_is_found_by_its_name_and_a_wrong_name_suggests_the_right_one() -> None:
    for name, check in CHECKS.items():
        assert find_check(name) is check
    with pytest.raises(LookupError, match="check_a_cut_ends_receive"):
        find_check("check_a_cut_end_recieve")


@pytest.mark.parametrize("check", [*CHECKS])
def test_every_check_states_its_promise_in_one_line(check: str) -> None:
    first, _, rest = CHECKS[check].__doc__.partition("\n")
    assert first.endswith(".")
    assert not rest.strip()


def test_the_kit_imports_no_test_runner() -> None:
    asked = "import sys, backplane_core.testing; print(*sorted({'pytest', '_pytest', 'unittest'} & {*sys.modules}))"
    assert subprocess.check_output([sys.executable, "-c", asked], text=True).strip() == ""


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
