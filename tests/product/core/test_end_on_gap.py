"""A connection that ends at a gap, so that its socket is closed and the client reloads."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from backplane_core import BaseBackplane, ConfigurationError, Gap, GapError, Target

from tests.support.fleets import MemoryFleet

USER = Target.user("u1")
FRAME = b'{"origin":"x","target":{"User":"u1"},"event":%d,"seq":%d,"prev":%d}'


async def test_it_yields_what_came_before_the_gap_then_raises_and_is_detached() -> None:
    fleet = MemoryFleet()
    told: list[Any] = []
    async with fleet.stack:
        pod = await fleet.pod()
        async with pod.connection("c1", USER, end_on_gap=True, on_gap=told.append) as connection:
            fleet.broker.publish(("backplane", FRAME % (1, 1, 0)))
            fleet.broker.publish(("backplane", FRAME % (2, 2, 1)))
            fleet.broker.publish(("backplane", FRAME % (9, 9, 8)))  # 3 to 8 are missing
            with pytest.raises(GapError, match="sequence") as error:  # noqa: PT012 -- the events come first
                while True:
                    told.append((await anext(connection)).value)
            assert pod.connection_count == 0
            with pytest.raises(GapError):
                await anext(connection)
    assert told[:2] == [1, 2]
    assert isinstance(told[2], Gap)
    assert told[2] == error.value.gap
    assert told[2].missed == 6
    assert len(told) == 3


async def test_an_outage_ends_it() -> None:
    fleet = MemoryFleet()
    async with fleet.stack:
        pod = await fleet.pod()
        async with pod.connection("c1", USER, end_on_gap=True) as connection:
            reading = asyncio.create_task(anext(connection))
            await asyncio.sleep(0)
            fleet.broker.drop_links()
            with pytest.raises(GapError) as error:
                await reading
            assert error.value.gap.cause == "reconnect"


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
async def test_it_does_not_go_with_a_policy_that_goes_on_after_gaps(backplane: BaseBackplane, overflow: Any) -> None:
    with pytest.raises(ConfigurationError, match="end_on_gap needs overflow='close'"):
        backplane.connection("c1", USER, end_on_gap=True, overflow=overflow)


async def test_every_hole_is_told_before_the_first_event_behind_it() -> None:
    """However quickly they come: what a queue tells stands in its stream; only bare sinks are told once a second."""
    fleet = MemoryFleet()
    stream: list[Any] = []
    async with fleet.stack:
        pod = await fleet.pod()
        async with pod.connection("c1", USER, on_gap=stream.append) as connection:
            for number in range(1, 12, 2):
                fleet.broker.publish(("backplane", FRAME % (number, number, number - 1)))
            async for event in connection:
                stream.append(event.value)
                if event.value == 11:
                    break
    assert [item.missed if isinstance(item, Gap) else item for item in stream] == [1, 1, 3, 1, 5, 1, 7, 1, 9, 1, 11]
