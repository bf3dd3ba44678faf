"""Behind which events a beat follows: those whose channel it marks the end of."""

from __future__ import annotations

from typing import Any

import pytest
from backplane_core import DistributedBackplane, Target
from backplane_core.testing import MemoryBroker, MemoryTransport

from tests.support.inside import members_of
from tests.support.waiting import until

USER = Target.user("u1")


@pytest.mark.parametrize(
    ("options", "target", "follows"),
    [
        ({"routing": "broadcast"}, USER, True),
        ({"routing": "broadcast", "lanes": 4}, USER, False),
        ({"routing": "interest"}, USER, False),
        ({"routing": "interest"}, [USER, Target.org("acme")], True),
        ({"routing": "interest"}, Target.everyone(), True),
    ],
)
async def test_a_beat_follows_what_went_to_the_shared_channel(
    options: dict[str, Any], target: Target | list[Target], *, follows: bool
) -> None:
    # Two beats of the second pod, a first and a last, say how many of the first pod came between.
    broker = MemoryBroker()
    async with (
        DistributedBackplane(MemoryTransport(broker), beat_s=0.05, probe_interval_s=60, **options) as pod,
        DistributedBackplane(MemoryTransport(broker), beat_s=0.05, probe_interval_s=60) as clock,
    ):
        await until(
            lambda: members_of(pod).is_settled and members_of(clock).is_settled, "all that a new link says is said"
        )
        before = pod.stats().beats
        await pod.publish(target, "event")
        for tick in range(1, 5):
            beats = clock.stats().beats
            await clock.publish(USER, tick)
            await until(lambda: clock.stats().beats > beats, "another beat_s has passed")  # noqa: B023 -- awaited here
        assert (pod.stats().beats > before) is follows
