"""Checks on a link under load: it does not block the event loop, and never skips a slow consumer silently."""

from __future__ import annotations

import asyncio
import itertools
from typing import Final

from backplane_core.testing._kit import waiting
from backplane_core.testing._kit.index import link_check
from backplane_core.testing._kit.open_link import RECEIVE, OpenLink, new_channel, open_links
from backplane_core.testing.harness import ContractError, Harness

STALL_S: Final = 0.5
"""Seconds for which the loop may stand still. A link needs milliseconds for such a batch; a busy machine may add to
that, so the best of several attempts counts."""
ATTEMPTS: Final = 3
BATCH: Final = 2_500
BATCHES: Final = 8
FLOOD: Final = 20_000
FLOOD_BYTES: Final = 1_000


@link_check
async def check_the_loop_keeps_turning(harness: Harness) -> None:
    """Sending and receiving large batches does not block the event loop: no blocking call, no long calculation."""
    channel = new_channel()
    sent = [b"%0100d" % number for number in range(BATCH)]
    stalls: list[float] = []
    async with open_links(harness, 2) as (sender, receiver):
        await receiver.subscribe(channel)
        for attempt in range(ATTEMPTS):
            clock = asyncio.create_task(_longest_stall(stop := asyncio.Event()), name="contract check: clock")
            try:
                for _ in range(BATCHES):
                    await sender.send(*[(channel, payload) for payload in sent])
                await receiver.wait_for_frames(channel, (attempt + 1) * BATCHES * BATCH)
            finally:
                stop.set()
                stalls.append(await clock)
            if stalls[-1] < STALL_S:
                return
    raise ContractError(
        f"the loop turns at least every {STALL_S:g} s in one of {ATTEMPTS} attempts",
        f"it stood still for {', '.join(f'{stall:.1f} s' for stall in stalls)}",
        "blocking calls in the link: sockets, locks, sleep, a synchronous client library",
    )


async def _longest_stall(stop: asyncio.Event) -> float:
    loop = asyncio.get_running_loop()
    longest, last = 0.0, loop.time()
    while not stop.is_set():
        await asyncio.sleep(0.001)
        now = loop.time()
        longest, last = max(longest, now - last), now
    return longest


@link_check
async def check_a_slow_consumer_is_not_skipped(harness: Harness) -> None:
    """A consumer that is busy while 20 MB arrive gets everything in order, or a `Lost`, or the link dies."""
    channel = new_channel()
    async with open_links(harness, 2) as (sender, slow):
        await slow.subscribe(channel)
        await sender.send((channel, b"-1 "))
        await slow.wait_for_frames(channel, 1)
        slow.gate.clear()
        await sender.send((channel, b"-1 "))
        padding = b"x" * FLOOD_BYTES
        for start in range(0, FLOOD, 200):
            await sender.send(*[(channel, b"%d %b" % (number, padding)) for number in range(start, start + 200)])
        slow.gate.set()
        await _catch_up(sender, slow, channel)
        if slow.ended:
            await slow.expect_death("when its consumer was too slow")
        numbers = [number for payload in slow.payloads[channel] if (number := int(payload.partition(b" ")[0])) >= 0]
        numbers = [number for number in numbers if number < FLOOD]
        if any(one >= other for one, other in itertools.pairwise(numbers)):
            raise ContractError("frames in order, each once", "a frame twice or out of order", RECEIVE)
        missing = FLOOD - len(numbers)
        lost = [item.missed for item in slow.lost if item.channel in {None, channel}]
        counted = sum(count for count in lost if count is not None)
        if missing and not slow.ended and (not lost or (None not in lost and counted < missing)):
            got = f"{missing} frames missing, {len(lost)} Lost that account for {counted}, and the link lives"
            raise ContractError("every frame, or a Lost that counts the missing, or a dead link", got, RECEIVE)


async def _catch_up(sender: OpenLink, slow: OpenLink, channel: str) -> None:
    """Return once a frame behind the flood arrived or the link died. That frame may be lost too, so it is repeated."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 3 * waiting.DEADLINE_S
    last = b"%d " % FLOOD
    while last not in slow.payloads[channel][-50:] and not slow.ended:
        if loop.time() > deadline:
            got = f"{len(slow.payloads[channel])} frames and {len(slow.lost)} Lost"
            raise ContractError(f"a frame behind the flood arrives within {3 * waiting.DEADLINE_S:g} s", got, RECEIVE)
        await sender.send((channel, last))
        await asyncio.sleep(0.05)
