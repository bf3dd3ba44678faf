"""A refused event reaches nobody, here or elsewhere, and leaves no trace in the books."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

from typing import Any

import pytest
from backplane_core import (
    BaseBackplane,
    DistributedBackplane,
    EventEncodeError,
    EventTooLargeError,
    InMemoryBackplane,
    Target,
)

from tests.product.core.test_event_encoding import REFUSED
from tests.support.fleets import MemoryFleet
from tests.support.inside import next_number
from tests.support.texts import error_texts


@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED.keys())
async def test_a_refused_event_reaches_nobody_and_takes_no_number(value: Any) -> None:
    fleet = MemoryFleet()
    async with fleet.stack, InMemoryBackplane() as alone:
        here, there = await fleet.pod(), await fleet.pod()
        near, far = await fleet.socket(here, "c1"), await fleet.socket(there, "c2")
        got: list[Any] = []
        await alone.attach("c1", got.append)
        await here.publish(Target.everyone(), "before")
        before = counters(here), counters(alone)
        for pod in (here, alone):
            with pytest.raises(EventEncodeError):
                await pod.publish(Target.everyone(), {"at": value})
        assert (counters(here), counters(alone)) == before
        await here.publish(Target.everyone(), "after")
        await far.has(2)
        assert near.stream == far.stream == ["before", "after"]
        assert got == []


def counters(pod: BaseBackplane) -> Any:
    stats = pod.stats()
    shared = next_number(pod, "backplane") if isinstance(pod, DistributedBackplane) else None
    return stats.published, stats.delivered, dict(stats.dropped), stats.sink_errors, shared


async def test_an_event_over_the_limit_reaches_nobody_and_takes_no_number() -> None:
    fleet = MemoryFleet()
    async with fleet.stack:
        here, there = await fleet.pod(max_event_bytes=10), await fleet.pod()
        near, far = await fleet.socket(here, "c1"), await fleet.socket(there, "c2")
        before = counters(here)
        with pytest.raises(EventTooLargeError) as error:
            await here.publish(Target.everyone(), "s3cret...")
        assert (error.value.size, error.value.limit) == (11, 10)
        assert "s3cret" not in error_texts(error.value)
        assert counters(here) == before
        assert await here.publish(Target.everyone(), "x" * 8) == 1
        await far.has(1)
        assert near.stream == far.stream == ["x" * 8]
