"""Every check of the contract kit over every transport of ours; what a transport's author writes is `test_link`."""

from __future__ import annotations

import pytest
from backplane_core._routing import RoutingName
from backplane_core.testing import FLEET_CHECKS, LINK_CHECKS, FleetCheck, Harness, LinkCheck


@pytest.mark.parametrize("check", LINK_CHECKS, ids=lambda check: check.__name__)
async def test_link(check: LinkCheck, harness: Harness) -> None:
    await check(harness)


@pytest.mark.parametrize("routing", ["broadcast", "interest"])
@pytest.mark.parametrize("check", FLEET_CHECKS, ids=lambda check: check.__name__)
async def test_fleet(check: FleetCheck, harness: Harness, routing: RoutingName) -> None:
    await check(harness, routing)
