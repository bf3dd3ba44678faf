"""What tests of a service, and of a transport, need: a broker in memory, and the contract kit.

    @pytest.mark.parametrize("check", LINK_CHECKS, ids=lambda check: check.__name__)
    async def test_the_transport_keeps_its_promises(check):
        await check(MyHarness())

Nothing here imports pytest: any runner, or a loop, does.
"""

from typing import Final

from backplane_core.testing import _delivery_checks, _fleet_checks
from backplane_core.testing._delivery_checks import check_frames_arrive_in_order, check_payloads_arrive_unchanged
from backplane_core.testing._fleet_checks import check_a_publish_reaches_the_other_pod
from backplane_core.testing._harness import ContractError, FleetCheck, Harness, LinkCheck
from backplane_core.testing._memory import MemoryBroker, MemoryTransport

__all__ = [  # noqa: RUF022 -- plainly sorted, as everywhere here
    "ContractError",
    "FLEET_CHECKS",
    "FleetCheck",
    "Harness",
    "LINK_CHECKS",
    "LinkCheck",
    "MemoryBroker",
    "MemoryTransport",
    "OUTAGE_CHECKS",
    "check_a_publish_reaches_the_other_pod",
    "check_frames_arrive_in_order",
    "check_payloads_arrive_unchanged",
]

LINK_CHECKS: Final = _delivery_checks.CHECKS
"""The checks on the seam: `await check(harness)`."""

FLEET_CHECKS: Final = _fleet_checks.CHECKS
"""The checks on backplanes over the transport: `await check(harness, routing)`, for both routings."""

OUTAGE_CHECKS: Final[frozenset[LinkCheck | FleetCheck]] = frozenset()
"""Those of both that cut the broker; all others may share it with anybody."""
