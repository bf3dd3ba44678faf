"""A full outbox under each policy: what goes out, what is counted, what the receivers are told."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from attrs import evolve
from backplane_core import DistributedBackplane, EventTooLargeError, OutboxFullError, Target, Traits
from backplane_core.testing import MemoryTransport

from tests.support.fleets import MemoryFleet
from tests.support.sockets import Socket
from tests.support.waiting import until

USER = Target.user("u1")
KEPT = 10


async def pods_with_a_full_outbox(fleet: MemoryFleet, **options: Any) -> tuple[DistributedBackplane, Socket]:
    """A pod that was accepting events without a turn of the loop, and a socket on another pod that knows it."""
    here = await fleet.pod(outbox_max_messages=KEPT, beat_s=0.05, probe_interval_s=0.5, **options)
    far = await fleet.socket(await fleet.pod(), "far", USER)
    await here.publish(USER, "first")
    await far.has(1)
    await here.flush(timeout_s=5)
    return here, far


@pytest.mark.parametrize(
    ("policy", "kept"), [("drop_newest", list(range(KEPT))), ("drop_oldest", list(range(13, 13 + KEPT)))]
)
async def test_what_is_dropped_is_counted_and_a_hole_of_exactly_that_size(
    fleet: MemoryFleet, policy: str, kept: list[int]
) -> None:
    here, far = await pods_with_a_full_outbox(fleet, outbox_overflow=policy)
    for number in range(13 + KEPT):
        here.publish_nowait(USER, number)
    await here.flush(timeout_s=5)
    assert here.stats().dropped == {"outbox": 13}
    # No event follows: the hole at the end of the channel's numbers shows all the same, by a mark that reaches nobody.
    await until(lambda: sum([gap.missed or 0 for gap in far.gaps]) == 13, "the hole")
    assert await far.has(1 + len(kept)) == ["first", *kept]
    assert {gap.cause for gap in far.gaps} == {"sequence"}


async def test_a_lost_tail_of_a_target_that_is_silent_from_then_on_is_told_to_those_who_hold_it(
    fleet: MemoryFleet,
) -> None:
    here, far = await pods_with_a_full_outbox(fleet)
    for number in range(KEPT):
        here.publish_nowait(Target.user("another"), number)
    here.publish_nowait(USER, "lost")
    assert here.stats().dropped == {"outbox": 1}
    await until(lambda: bool(far.gaps), "the gap of the tail")
    assert far.gaps[0].missed is not None
    assert far.gaps[0].missed >= 1
    assert far.events == ["first"]


async def test_raise_refuses_before_anybody_got_anything_and_uses_up_no_number(fleet: MemoryFleet) -> None:
    here, far = await pods_with_a_full_outbox(fleet, outbox_overflow="raise")
    near = await fleet.socket(here, "near", USER)
    await here.flush(timeout_s=5)
    for number in range(KEPT):
        here.publish_nowait(USER, number)
    with pytest.raises(OutboxFullError, match=r"10 events of \d+ bytes .* publish again later") as error:
        here.publish_nowait(USER, {"secret": "payload"})
    assert error.value.messages == KEPT
    assert "payload" not in str(error.value) + repr(error.value)
    await here.flush(timeout_s=5)
    here.publish_nowait(USER, "next")
    await far.has(KEPT + 2)
    assert near.events == [*range(KEPT), "next"]
    assert far.events == ["first", *range(KEPT), "next"]
    assert far.gaps == []
    assert here.stats().dropped == {}
    assert here.stats().published == KEPT + 2


async def test_raise_still_knows_what_is_too_large(fleet: MemoryFleet) -> None:
    here = await fleet.pod(outbox_overflow="raise", max_event_bytes=100)
    with pytest.raises(EventTooLargeError):
        await here.publish(USER, "x" * 200)
    assert await here.publish(USER, "x" * 50) == 0


async def test_an_event_larger_than_the_whole_outbox_pushes_nothing_out(fleet: MemoryFleet) -> None:
    here, far = await pods_with_a_full_outbox(fleet, outbox_overflow="drop_oldest", outbox_max_bytes=2_000)
    for number in range(3):
        here.publish_nowait(USER, number)
    here.publish_nowait(USER, "x" * 3_000)
    here.publish_nowait(USER, "after")
    await far.has(5)
    assert far.events == ["first", 0, 1, 2, "after"]
    assert [gap.missed for gap in far.gaps] == [1]
    assert here.stats().dropped == {"outbox": 1}


async def test_flush_waits_for_its_own_although_others_behind_it_are_dropped(fleet: MemoryFleet) -> None:
    """What a new broker does not take is dropped from the middle of the line; that is no progress of those before."""
    transport = MemoryTransport(fleet.broker, Traits(max_payload_bytes=100_000))
    here, there = await fleet.pod(transport), await fleet.pod()
    far = await fleet.socket(there, "far", USER)
    fleet.broker.cut()
    await here.wait_for_state("degraded", timeout_s=5)
    waiting = here.stats().outbox_messages
    await here.publish(USER, "small")
    flushing = asyncio.create_task(here.flush(timeout_s=10))
    await asyncio.sleep(0)
    for _ in range(waiting + 1):
        await here.publish(USER, "x" * 50_000)
    confirmed: list[bool] = []
    flushing.add_done_callback(lambda _: confirmed.append(here.stats().sent > sent))
    sent = here.stats().sent
    transport._traits = evolve(transport.traits, max_payload_bytes=20_000)
    fleet.broker.restore()
    await flushing
    assert here.stats().dropped == {"too_large": waiting + 1}
    assert confirmed == [True], "it waited for the broker, not for the drops"
    await until(lambda: bool(far.gaps), "a gap")
