"""A pod has a name, which other pods and people know it by."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
from backplane_core import ConfigurationError, FleetMismatch, Gap, InMemoryBackplane, Record, Target

from tests.support.fleets import MemoryFleet
from tests.support.inside import frame_from, next_number
from tests.support.waiting import until


async def test_it_is_host_and_process_unless_it_is_given_one() -> None:
    async with InMemoryBackplane() as unnamed, InMemoryBackplane(pod_name="web-3") as named:
        assert unnamed.stats().pod_name == f"{socket.gethostname()}-{os.getpid()}"
        assert named.stats().pod_name == "web-3"


@pytest.mark.parametrize("name", ["", "x" * 129, "a\nb", "\x1b[31m", 5, b"web"], ids=repr)
def test_a_name_keeps_to_its_line_of_a_log(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="1 to 128 printable characters"):
        InMemoryBackplane(pod_name=name)


async def test_a_pod_that_routes_otherwise_is_named() -> None:
    broker = MemoryFleet().broker
    fleet, wide = MemoryFleet(broker=broker), MemoryFleet(broker=broker)
    records: list[Record] = []
    async with fleet.stack, wide.stack:
        await fleet.pod(observer=records.append, pod_name="web-1")
        await wide.pod(lanes=4, pod_name="web-2")

        def named() -> list[str | None]:
            return [record.pod for record in records if isinstance(record, FleetMismatch)]

        await until(named, "the other pod's beat")
        assert named() == ["web-2"]


async def test_a_hole_names_the_pod_whose_events_are_missing() -> None:
    fleet = MemoryFleet()
    gaps: list[Gap] = []
    async with fleet.stack:
        here = await fleet.pod(on_gap=gaps.append, pod_name="web-1")
        there = await fleet.pod(pod_name="web-2", beat_s=0.02)
        seen = here.stats().received
        await there.publish(Target.user("u1"), 1)
        await until(lambda: here.stats().received >= seen + 2, "the event, and the beat behind it")
        number = next_number(there, "backplane")
        fleet.broker.publish(
            ("backplane", frame_from(there, b'"Everyone","event":1,"seq":%d,"prev":%d}' % (number + 5, number + 4)))
        )
        await until(lambda: gaps, "the hole")
    assert gaps[0].reason == "numbers of pod 'web-2' were skipped"
