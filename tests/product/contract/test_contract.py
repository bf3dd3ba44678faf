"""Every check of the contract kit over every transport of ours; a transport's author writes the same two tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from backplane_core._protocol.routing import RoutingName
from backplane_core.options import Settings
from backplane_core.testing import FLEET_CHECKS, LINK_CHECKS, FleetCheck, Harness, LinkCheck


@pytest.mark.every_loop
@pytest.mark.parametrize("check", LINK_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("harness", ["redis", "redis_resp2", "cluster", "nats", "nats_node"], indirect=True)
async def test_link(harness: Harness, check: LinkCheck) -> None:
    await check(harness)


@pytest.mark.parametrize("check", LINK_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("harness", ["memory", "redis_public", "redis_resp2_public", "nats_public"], indirect=True)
async def test_link_in_memory_or_by_the_public_api(harness: Harness, check: LinkCheck) -> None:
    await check(harness)


@pytest.mark.every_loop
@pytest.mark.parametrize("routing", ["broadcast", "interest"])
@pytest.mark.parametrize("check", FLEET_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("harness", ["memory", "redis", "redis_resp2", "cluster", "nats"], indirect=True)
async def test_fleet(harness: Harness, check: FleetCheck, routing: RoutingName) -> None:
    await check(harness, routing)


@pytest.mark.thorough
@pytest.mark.parametrize("routing", ["broadcast", "interest"])
@pytest.mark.parametrize("check", FLEET_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("harness", ["memory", "redis", "nats"], indirect=True)
async def test_a_fleet_that_signs(
    harness: Harness, check: FleetCheck, routing: RoutingName, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, made = Settings.of, 0

    def signing(options: Mapping[str, Any]) -> Settings:
        nonlocal made
        made += 1
        return plain({**options, "signing_keys": [b"one key of the fleet, of 32 bytes"]})

    monkeypatch.setattr(Settings, "of", signing)
    await check(harness, routing)
    assert made > 0
