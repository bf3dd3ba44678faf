"""Checks on queues, for transports whose brokers share jobs out; a transport without them passes them all."""

from __future__ import annotations

import asyncio
import time
from typing import Final, cast

from backplane_core.queues import Delivery, QueueLink, queue_channel
from backplane_core.testing._kit.index import link_check
from backplane_core.testing._kit.open_link import OpenLink, new_channel, open_links
from backplane_core.testing._kit.pods import expect_equal
from backplane_core.testing._kit.waiting import expect_return
from backplane_core.testing.harness import ContractError, Harness

LEASE_S: Final = 1.0
LEASES_S: Final = (LEASE_S, 4 * LEASE_S, 16 * LEASE_S)
"""One after the other, until this machine is fast enough for one."""
LONG_LEASE_S: Final = 60.0
"""Longer than a check takes on the busiest machine."""
SHORT_S: Final = 0.1
TRIES: Final = 80
IN_TIME: Final = 0.8
"""Of a lease: later, and it may have ended before the link was asked to extend it."""
MANY: Final = 20
LOOK_AT: Final = "QueueLink.take: each frame is one worker's, until it is finished, given back, or its lease is over"
FINISH: Final = "QueueLink.finish: nobody gets the frame again"
EXTEND: Final = "QueueLink.extend: the frame stays its worker's for another lease"


@link_check
async def check_each_job_goes_to_one_worker(harness: Harness) -> None:
    """Each frame of a queue goes to one `take` of the fleet, the oldest first, also one that was there before any."""
    if not harness.make().traits.queues:
        return
    channel, payloads = queue_channel(new_channel(), "jobs"), [b"%d" % number for number in range(6)]
    async with open_links(harness, 2) as (one, other):
        await one.send(*[(channel, payload) for payload in payloads[:4]])
        await _open(one, channel, LONG_LEASE_S)
        await _open(other, channel, LONG_LEASE_S)
        first = await _take(one, channel, 1)
        await one.send(*[(channel, payload) for payload in payloads[4:]])
        both = await asyncio.gather(_take_all(one, channel), _take_all(other, channel))
        found = [*first, *both[0], *both[1]]
        expect_equal([delivery.payload for delivery in first], payloads[:1], "what comes first", LOOK_AT)
        expect_equal(sorted([delivery.payload for delivery in found]), payloads, "what two links took", LOOK_AT)
        expect_equal({delivery.attempt for delivery in found}, {1}, "how often each was handed out", LOOK_AT)
        await _finish(other, channel, [delivery.token for delivery in found])
        expect_equal(await _take(one, channel, 9), [], "what is left of what is finished", FINISH)


@link_check
async def check_an_unfinished_job_comes_again(harness: Harness) -> None:
    """A frame whose worker is gone goes to another one once its lease is over; so does one that is given back."""
    if not harness.make().traits.queues:
        return
    channel = queue_channel(new_channel(), "jobs")
    async with open_links(harness, 2) as (dying, other):
        await _open(dying, channel, LEASE_S)
        await dying.send((channel, b"left"))
        await _take_one(dying, channel)
        await dying.close()
        await _open(other, channel, LEASE_S)
        again = await _take_one(other, channel)
        expect_equal((again.payload, again.attempt), (b"left", 2), "what a link left that is closed", LOOK_AT)
        await expect_return(_queue(other).give_back(channel, again.token, delay_s=0.0), "give_back()", LOOK_AT)
        third = await _take_one(other, channel)
        expect_equal((third.payload, third.attempt), (b"left", 3), "what was given back", LOOK_AT)
        await expect_return(_queue(other).give_back(channel, third.token, delay_s=SHORT_S), "give_back()", LOOK_AT)
        last = await _take_one(other, channel)
        expect_equal((last.payload, last.attempt), (b"left", 4), "what was given back for later", LOOK_AT)
        await _finish(other, channel, [last.token])


@link_check
async def check_an_extended_job_stays_with_its_worker(harness: Harness) -> None:
    """A frame that is extended in time goes to nobody else; and once it is finished, never again to anyone."""
    if not harness.make().traits.queues:
        return
    for lease_s in LEASES_S:
        if await _stays(harness, lease_s):
            return
    raise ContractError(f"a lease of {LEASES_S[-1]:g} s is extended in time", "this machine was too slow", EXTEND)


async def _stays(harness: Harness, lease_s: float) -> bool:
    """Return False if this machine was so late that a lease ended by itself: that says nothing of the link."""
    channel = queue_channel(new_channel(), "jobs")
    async with open_links(harness, 2) as (slow, other):
        await _open(slow, channel, lease_s)
        await _open(other, channel, lease_s)
        await slow.send((channel, b"slow"))
        extended_at, waited_s = time.monotonic(), 0.0
        taken = await _take_one(slow, channel)
        while waited_s < 2 * lease_s:
            await expect_return(_queue(slow).extend(channel, [taken.token]), "extend()", EXTEND)
            if time.monotonic() - extended_at > IN_TIME * lease_s:
                return False
            extended_at = time.monotonic()
            waited_s += SHORT_S
            meanwhile = await _take(other, channel, 1)
            if time.monotonic() - extended_at > IN_TIME * lease_s:
                return False
            expect_equal(meanwhile, [], "what another worker takes meanwhile", EXTEND)
        await _finish(slow, channel, [taken.token])
        for _ in range(int(1.5 * lease_s / SHORT_S)):
            expect_equal(await _take(other, channel, 1), [], "what another worker takes afterwards", FINISH)
    return True


def _queue(link: OpenLink) -> QueueLink:
    return cast("QueueLink", link.link)


async def _open(link: OpenLink, channel: str, lease_s: float) -> None:
    await expect_return(_queue(link).open_queue(channel, lease_s=lease_s), "open_queue()", LOOK_AT)


async def _take(link: OpenLink, channel: str, limit: int) -> list[Delivery]:
    items = await expect_return(_queue(link).take(channel, limit, wait_s=SHORT_S), "take()", LOOK_AT)
    return [item for item in items if isinstance(item, Delivery)]


async def _take_one(link: OpenLink, channel: str) -> Delivery:
    for _ in range(TRIES):
        if found := await _take(link, channel, 1):
            return found[0]
    raise ContractError(f"a frame that nobody has is taken within {TRIES * SHORT_S:g} s", "it was not", LOOK_AT)


async def _take_all(link: OpenLink, channel: str) -> list[Delivery]:
    found: list[Delivery] = []
    while len(found) < MANY and (page := await _take(link, channel, 2)):
        found += page
    return found


async def _finish(link: OpenLink, channel: str, tokens: list[str]) -> None:
    await expect_return(_queue(link).finish(channel, tokens), "finish()", FINISH)
