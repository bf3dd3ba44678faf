"""An event that is published again under its own id reaches nobody twice, whoever publishes it: over each broker."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from backplane_core import Publisher, SyncPublisher, Target

from tests.support.fleets import Fleet
from tests.support.sockets import settled

ROOM = Target("room", "jobs")


@pytest.mark.parametrize("signing_keys", [None, [b"a key of thirty-two bytes or more"]], ids=["plain", "signed"])
async def test_a_job_that_is_run_again_by_another_process_reaches_nobody_twice(
    fleet: Fleet, signing_keys: list[bytes] | None
) -> None:
    options: dict[str, Any] = {**fleet.options, "signing_keys": signing_keys}
    here, there = [await fleet.pod(signing_keys=signing_keys) for _ in range(2)]
    sockets = [await fleet.socket(pod, f"c{number}", ROOM) for number, pod in enumerate((here, there))]
    async with Publisher(fleet.url, **options) as first, Publisher(fleet.url, **options) as second:
        await first.publish(ROOM, "done", event_id="job-7")
        await first.flush(timeout_s=30)
        for socket in sockets:
            await socket.has(1)
        await second.publish(ROOM, "done", event_id="job-7")
        await second.publish_json(ROOM, b'"done"', event_id="job-7")
        sync = SyncPublisher(fleet.url, **options)
        try:
            await asyncio.to_thread(sync.publish, ROOM, "done", event_id="job-7")
            await asyncio.to_thread(sync.publish_json, ROOM, b'"done"', event_id="job-7")
            await asyncio.to_thread(sync.flush, timeout_s=30)
        finally:
            await asyncio.to_thread(sync.close)
        await second.publish(ROOM, "other", event_id="job-8")
        await second.publish([ROOM, Target("room", "x")], "both", event_id="job-7")
        await second.flush(timeout_s=30)
        for socket in sockets:
            assert sorted(await socket.has(3)) == ["both", "done", "other"], "to other targets it is another event"
    assert [pod.stats().repeats for pod in (here, there)] == [4, 4]
    assert await here.publish(ROOM, "done", event_id="job-7") == 0
    receipt = await there.fleet.publish(ROOM, "done", event_id="job-7", timeout_s=30)
    assert (receipt.total, receipt.missing) == (0, ())
    assert await there.publish(ROOM, "last") == 1
    for socket in sockets:
        assert (await socket.has(4))[3:] == ["last"]
    assert [pod.stats().repeats for pod in (here, there)] == [6, 6]


async def test_a_pod_hands_out_its_own_and_not_what_another_publishes_of_it(fleet: Fleet) -> None:
    here, there = [await fleet.pod() for _ in range(2)]
    sockets = [await fleet.socket(pod, f"c{number}", ROOM) for number, pod in enumerate((here, there))]
    for number in range(100):
        for pod in (here, there):
            await pod.publish(ROOM, number, event_id=f"job-{number}")
    await settled(here, there, sockets=sockets)
    for socket in sockets:
        assert [event for event in socket.events if isinstance(event, int)] == [*range(100)]


async def test_what_is_published_again_goes_out_again_for_a_pod_that_has_not_had_it(fleet: Fleet) -> None:
    here = await fleet.pod()
    old = await fleet.socket(here, "old", ROOM)
    await here.publish(ROOM, "done", event_id="job-7")
    there = await fleet.pod()
    new = await fleet.socket(there, "new", ROOM)
    assert await here.publish(ROOM, "done", event_id="job-7") == 0
    assert await new.has(1) == ["done"]
    assert old.events == ["done"]
