"""The contract kit, a broker in memory.

    @pytest.mark.parametrize("check", LINK_CHECKS, ids=lambda check: check.__name__)
    async def test_the_transport_keeps_its_promises(check):
        await check(MyHarness())

Nothing here imports pytest: any runner, or a loop, does.
"""

from backplane_core.testing.checks import FLEET_CHECKS, LINK_CHECKS, OUTAGE_CHECKS, find_check
from backplane_core.testing.faults import Faults
from backplane_core.testing.faulty import FaultyTransport
from backplane_core.testing.harness import ContractError, FleetCheck, Harness, LinkCheck
from backplane_core.testing.memory import MemoryBroker, MemoryTransport
from backplane_core.testing.memory_log import MemoryLog, MemoryLogTransport

__all__ = [  # noqa: RUF022 -- plainly sorted, as everywhere here
    "ContractError",
    "FLEET_CHECKS",
    "Faults",
    "FaultyTransport",
    "FleetCheck",
    "Harness",
    "LINK_CHECKS",
    "LinkCheck",
    "MemoryBroker",
    "MemoryLog",
    "MemoryLogTransport",
    "MemoryTransport",
    "OUTAGE_CHECKS",
    "find_check",
]
