"""Checks on cancellation: a link whose call was cancelled is usable or dead, never silently wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from backplane_core.errors import TransportError
from backplane_core.testing._kit import waiting
from backplane_core.testing._kit.index import cuts_the_broker, link_check
from backplane_core.testing._kit.open_link import (
    ACLOSE,
    OPEN,
    RECEIVE,
    SEND,
    SUBSCRIBE,
    UNSUBSCRIBE,
    OpenLink,
    busy_channels,
    expect_same,
    new_channel,
    open_links,
)
from backplane_core.testing._kit.waiting import expect_end, expect_nothing_left, expect_return, outage
from backplane_core.testing.harness import ContractError, Harness
from backplane_core.transport import Frame, Link

TURNS: Final = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89)
"""When to cancel, in turns of the loop from the call: before it began, in each of its awaits, after it ended."""

CONFUSED: Final = "the order of confirmations: a cancelled call's own still comes, and must not confirm the next call"


async def _cancel(call: Coroutine[Any, Any, Any], turns: int, what: str, look_at: str) -> Any:  # noqa: ANN401 -- passed on
    """Cancel a call after so many turns of the loop; return what it returned if that was too late."""
    task = asyncio.create_task(call, name=f"contract check: {what}")
    try:
        for _ in range(turns):
            await asyncio.sleep(0)
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=waiting.DEADLINE_S)
    if not task.done():
        raise ContractError(f"a cancelled {what} ends", "it goes on", look_at)
    if task.cancelled():
        return None
    error = task.exception()
    if error is not None and not isinstance(error, TransportError):
        got = f"{type(error).__name__}: {error}"
        raise ContractError(f"a cancelled {what} raises CancelledError or TransportError", got, look_at) from error
    return None if error is not None else task.result()


@link_check
async def check_a_cancelled_open_leaves_nothing(harness: Harness) -> None:
    """Cancelling `open` at any moment leaves no task, no socket and no unhandled error."""
    await _cancel_opens(harness)


@cuts_the_broker
@link_check
async def check_a_cancelled_open_without_a_broker_leaves_nothing(harness: Harness) -> None:
    """Cancelling `open` while the broker is away leaves no task, no socket and no unhandled error."""
    async with outage(harness):
        await _cancel_opens(harness)


async def _cancel_opens(harness: Harness) -> None:
    async with expect_nothing_left("an open() that was cancelled", OPEN):
        for turns in TURNS:
            link = await _cancel(harness.make().open(), turns, "open()", OPEN)
            if isinstance(link, Link):
                await expect_return(link.aclose(), "aclose()", ACLOSE)


@link_check
async def check_a_cancelled_subscribe_confuses_nothing(harness: Harness) -> None:
    """After a cancelled `subscribe` the link is dead and says so, or later calls and other channels work."""
    async with expect_nothing_left("a link whose subscribe() was cancelled", ACLOSE):
        for turns in TURNS:
            kept = new_channel()
            async with open_links(harness, 2) as (sender, link):
                await link.subscribe(kept)
                await _cancel(link.link.subscribe(busy_channels(harness)), turns, "subscribe()", SUBSCRIBE)
                await _expect_usable_or_dead(link, sender, kept)


@link_check
async def check_a_cancelled_unsubscribe_confuses_nothing(harness: Harness) -> None:
    """After a cancelled `unsubscribe` the link is dead and says so, or later calls and other channels work."""
    async with expect_nothing_left("a link whose unsubscribe() was cancelled", ACLOSE):
        for turns in TURNS:
            kept, left = new_channel(), busy_channels(harness)
            async with open_links(harness, 2) as (sender, link):
                await link.subscribe(kept)
                await link.subscribe(*left)
                await _cancel(link.link.unsubscribe(left), turns, "unsubscribe()", UNSUBSCRIBE)
                await _expect_usable_or_dead(link, sender, kept)


async def _expect_usable_or_dead(link: OpenLink, sender: OpenLink, kept: str) -> None:
    """Subscribe to more channels, send on all of them, and compare; a dead link must have said so."""
    sent: list[bytes] = []
    for number in range(5):
        channel = new_channel()
        if await expect_end(link.link.subscribe([channel]), "a later subscribe()", CONFUSED) is not None:
            await link.expect_death("since a later call raised it")
            break
        sent.append(b"%d" % number)
        await sender.send((kept, sent[-1]), (channel, b"now"))
        try:
            expect_same(await link.read_all(sender, channel), [b"now"], CONFUSED)
            expect_same(await link.read_all(sender, kept), sent, CONFUSED)
        except ContractError:
            if not link.ended:
                raise
            await link.expect_death("when its call was cancelled")
            break


@link_check
async def check_a_cancelled_send_confuses_nothing(harness: Harness) -> None:
    """A prefix of a cancelled `send` arrives; then the link is dead and says so, or later sends arrive in full."""
    async with expect_nothing_left("a link whose send() was cancelled", ACLOSE):
        for turns in TURNS:
            await _cancel_send(harness, turns)


async def _cancel_send(harness: Harness, turns: int) -> None:
    channel = new_channel()
    first: list[Frame] = [(channel, b"first %d" % number) for number in range(1_000)]
    second: list[Frame] = [(channel, b"second %0500d" % number) for number in range(1_000)]
    async with open_links(harness, 3) as (sender, receiver, other):
        await receiver.subscribe(channel)
        await _cancel(sender.link.send(first), turns, "send()", SEND)
        if await expect_end(sender.link.send(second), "a later send()", CONFUSED) is not None:
            await sender.expect_death("since a later call raised it")
            second = []
        # With confirmations nothing overtakes the second send, unless the cancelled one's confirmation ended it early.
        confirmed = not second or sender.transport.traits.confirms
        got = await receiver.read_all(other if confirmed else sender, channel)
        arrived = len([payload for payload in got if payload.startswith(b"first")])
        expect_same(got, [frame[1] for frame in [*first[:arrived], *second]], CONFUSED)


@link_check
async def check_a_cancelled_receive_hides_nothing(harness: Harness) -> None:
    """After a cancelled `receive`, a new one raises `TransportError` or yields everything sent from then on."""
    async with expect_nothing_left("a link whose receive() was cancelled", ACLOSE):
        for turns in TURNS:
            async with open_links(harness, 2) as (sender, cancelled):
                await _cancel_receive(sender, cancelled, turns)


async def _cancel_receive(sender: OpenLink, cancelled: OpenLink, turns: int) -> None:
    channel = new_channel()
    await cancelled.subscribe(channel)
    await sender.send(*[(channel, b"before")] * 10)
    for _ in range(turns):
        await asyncio.sleep(0)
    cancelled.reader.cancel()
    await asyncio.wait({cancelled.reader}, timeout=waiting.DEADLINE_S)
    cancelled.read()
    sent = [b"%d" % number for number in range(10)]
    await sender.send(*[(channel, payload) for payload in sent])
    try:
        got = await cancelled.read_all(sender, channel)
        expect_same([payload for payload in got if payload != b"before"], sent, RECEIVE)
    except ContractError:
        if not cancelled.ended:
            raise
        await cancelled.expect_death("when its receive() was cancelled")
