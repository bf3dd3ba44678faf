"""Checks on a link whose confirmations come late: each belongs to one `send`, and to no other."""

from __future__ import annotations

import asyncio
from typing import Final

from backplane_core.testing._kit import waiting
from backplane_core.testing._kit.index import link_check
from backplane_core.testing._kit.open_link import OpenLink, expect_same, new_channel, open_links
from backplane_core.testing._kit.waiting import expect_end
from backplane_core.testing.harness import ContractError, Harness

LATE_S: Final = 1.0
"""Seconds for which a confirmation is held up: longer than any answer takes, too short for a link to be given up."""
FLOOD: Final = 4_000
FLOOD_BYTES: Final = 1_000
"""4 MB: more than a link and the sockets hold, so that the rest, and a confirmation behind it, waits at the broker."""

LATE: Final = "Link.send: no time limit and no second attempt of its own; it waits for its confirmation, however late"
OWN: Final = "Link.send: each confirmation belongs to one send; that of a cancelled one still comes, and ends no other"


@link_check
async def check_a_late_confirmation_is_waited_for(harness: Harness) -> None:
    """A `send` whose confirmation is late waits for it: it neither fails while the link lives nor sends again."""
    channel = new_channel()
    async with open_links(harness, 3) as (busy, other, receiver):
        await receiver.subscribe(channel)
        await _hold_up(busy, other)
        sending = asyncio.create_task(expect_end(busy.link.send([(channel, b"once")]), "send()", LATE))
        await asyncio.wait({sending}, timeout=LATE_S)
        busy.gate.set()
        if await sending is not None:
            await busy.expect_death("since its send() raised it")
            return
        expect_same(await receiver.read_all(other, channel), [b"once"], LATE)


@link_check
async def check_a_late_confirmation_ends_no_other_send(harness: Harness) -> None:
    """The late confirmation of a cancelled `send` does not end the next one, which waits for its own."""
    channel = new_channel()
    async with open_links(harness, 3) as (busy, other, receiver):
        await receiver.subscribe(channel)
        await _hold_up(busy, other)
        cancelled = asyncio.create_task(busy.link.send([(channel, b"cancelled")]), name="contract check: send")
        await asyncio.sleep(0.05)  # it is written, and waits
        cancelled.cancel()
        await asyncio.wait({cancelled}, timeout=waiting.DEADLINE_S)
        if not cancelled.done():
            raise ContractError("a cancelled send() ends", "it goes on", OWN)
        frames = [b"%0500d" % number for number in range(2_000)]
        sending = asyncio.create_task(
            expect_end(busy.link.send([(channel, payload) for payload in frames]), "a later send()", OWN)
        )
        await asyncio.sleep(0)
        busy.gate.set()
        if await sending is not None:
            await busy.expect_death("since a later call raised it")
            return
        # With confirmations nothing overtakes what was sent, unless the cancelled one's confirmation ended it early.
        behind = other if busy.transport.traits.confirms else busy
        got = await receiver.read_all(behind, channel)
        expect_same([payload for payload in got if payload != b"cancelled"], frames, OWN)


async def _hold_up(busy: OpenLink, other: OpenLink) -> None:
    """Keep a link's consumer busy while more comes than the link holds: in one stream, confirmations wait behind it."""
    flood, padding = new_channel(), b"x" * FLOOD_BYTES
    await busy.subscribe(flood)
    await other.send((flood, padding))
    await busy.wait_for_frames(flood, 1)
    busy.gate.clear()
    for _ in range(0, FLOOD, 200):
        await other.send(*[(flood, padding)] * 200)
