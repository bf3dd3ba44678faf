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
    fresh,
    links,
    many,
    same,
)
from backplane_core.testing._kit.waiting import ended, leaves_nothing, outage, returned
from backplane_core.testing.harness import ContractError, Harness
from backplane_core.transport import Frame, Link

TURNS: Final = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89)
"""When to cancel, in turns of the loop from the call: before it began, during each of its awaits, after it ended."""

CONFUSED: Final = "the count of confirmations: that of a cancelled call still comes, and must not confirm the next call"


async def _cancelled(call: Coroutine[Any, Any, Any], turns: int, what: str, look_at: str) -> Any:  # noqa: ANN401 -- passed on
    """Cancel a call after so many turns of the loop; return its result if that was too late."""
    task = asyncio.create_task(call, name=f"contract check: {what}")
    try:
        for _ in range(turns):
            await asyncio.sleep(0)
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=waiting.DEADLINE_S)
    if not task.done():
        raise ContractError(f"a cancelled {what} ends", "it continues", look_at)
    if task.cancelled():
        return None
    error = task.exception()
    if error is not None and not isinstance(error, TransportError):
        got = f"{type(error).__name__}: {error}"
        raise ContractError(f"a cancelled {what} raises CancelledError or TransportError", got, look_at) from error
    return None if error is not None else task.result()


@link_check
async def check_a_cancelled_open_leaves_nothing(harness: Harness) -> None:
    """A cancelled `open` leaves no task, no socket and no unretrieved error, whenever it was cancelled."""
    await _cancelled_opens(harness)


@cuts_the_broker
@link_check
async def check_a_cancelled_open_without_a_broker_leaves_nothing(harness: Harness) -> None:
    """Nor does an `open` that is cancelled while it fails because the broker is down."""
    async with outage(harness):
        await _cancelled_opens(harness)


async def _cancelled_opens(harness: Harness) -> None:
    async with leaves_nothing("an open() that was cancelled", OPEN):
        for turns in TURNS:
            link = await _cancelled(harness.make().open(), turns, "open()", OPEN)
            if isinstance(link, Link):
                await returned(link.aclose(), "aclose()", ACLOSE)


@link_check
async def check_a_cancelled_subscribe_confuses_nothing(harness: Harness) -> None:
    """After a cancelled `subscribe` the link is dead and says so, or later calls and other channels work as ever."""
    async with leaves_nothing("a link whose subscribe() was cancelled", ACLOSE):
        for turns in TURNS:
            kept = fresh()
            async with links(harness, 2) as (sender, link):
                await link.subscribe(kept)
                await _cancelled(link.link.subscribe(many()), turns, "subscribe()", SUBSCRIBE)
                await _usable_or_dead(link, sender, kept)


@link_check
async def check_a_cancelled_unsubscribe_confuses_nothing(harness: Harness) -> None:
    """After a cancelled `unsubscribe` the link is dead and says so, or later calls and other channels work as ever."""
    async with leaves_nothing("a link whose unsubscribe() was cancelled", ACLOSE):
        for turns in TURNS:
            kept, left = fresh(), many()
            async with links(harness, 2) as (sender, link):
                await link.subscribe(kept)
                await link.subscribe(*left)
                await _cancelled(link.link.unsubscribe(left), turns, "unsubscribe()", UNSUBSCRIBE)
                await _usable_or_dead(link, sender, kept)


async def _usable_or_dead(link: OpenLink, sender: OpenLink, kept: str) -> None:
    """Subscribe to more channels, send on all of them, and compare; a dead link must have said so."""
    sent: list[bytes] = []
    for number in range(5):
        channel = fresh()
        if await ended(link.link.subscribe([channel]), "a later subscribe()", CONFUSED) is not None:
            await link.died("since a later call raised it")
            break
        sent.append(b"%d" % number)
        await sender.send((kept, sent[-1]), (channel, b"now"))
        try:
            same(await link.settled(sender, channel), [b"now"], CONFUSED)
            same(await link.settled(sender, kept), sent, CONFUSED)
        except ContractError:
            if not link.ended:
                raise
            await link.died("when its call was cancelled")
            break


@link_check
async def check_a_cancelled_send_confuses_nothing(harness: Harness) -> None:
    """A prefix of a cancelled `send` arrives; then the link is dead and says so, or later sends arrive complete."""
    async with leaves_nothing("a link whose send() was cancelled", ACLOSE):
        for turns in TURNS:
            await _cancelled_send(harness, turns)


async def _cancelled_send(harness: Harness, turns: int) -> None:
    channel = fresh()
    first: list[Frame] = [(channel, b"first %d" % number) for number in range(1_000)]
    second: list[Frame] = [(channel, b"second %0500d" % number) for number in range(1_000)]
    async with links(harness, 3) as (sender, receiver, other):
        await receiver.subscribe(channel)
        await _cancelled(sender.link.send(first), turns, "send()", SEND)
        if await ended(sender.link.send(second), "a later send()", CONFUSED) is not None:
            await sender.died("since a later call raised it")
            second = []
        # With confirmations nothing overtakes what was sent last, unless the confirmation was the cancelled call's.
        confirmed = not second or sender.transport.traits.confirms
        got = await receiver.settled(other if confirmed else sender, channel)
        arrived = len([payload for payload in got if payload.startswith(b"first")])
        same(got, [frame[1] for frame in [*first[:arrived], *second]], CONFUSED)


@link_check
async def check_a_cancelled_receive_hides_nothing(harness: Harness) -> None:
    """After a cancelled `receive` a new one raises `TransportError`, or yields everything sent from then on."""
    async with leaves_nothing("a link whose receive() was cancelled", ACLOSE):
        for turns in TURNS:
            async with links(harness, 2) as (sender, cancelled):
                await _cancelled_receive(sender, cancelled, turns)


async def _cancelled_receive(sender: OpenLink, cancelled: OpenLink, turns: int) -> None:
    channel = fresh()
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
        got = await cancelled.settled(sender, channel)
        same([payload for payload in got if payload != b"before"], sent, RECEIVE)
    except ContractError:
        if not cancelled.ended:
            raise
        await cancelled.died("when its receive() was cancelled")
