"""A test marked `every_loop` does run on each loop, and any other one on the loop that was asked for."""

from __future__ import annotations

import pytest

from tests.conftest import loop_name


@pytest.mark.every_loop
async def test_a_marked_test_runs_on_the_loop_of_its_name(request: pytest.FixtureRequest) -> None:
    assert request.node.name == f"test_a_marked_test_runs_on_the_loop_of_its_name[{loop_name()}]"


async def test_any_other_test_runs_on_the_loop_of_the_command_line(pytestconfig: pytest.Config) -> None:
    assert loop_name() == (pytestconfig.getoption("--loop") or "asyncio")
