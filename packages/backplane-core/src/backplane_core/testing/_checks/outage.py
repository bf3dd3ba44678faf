"""Checks on links whose broker goes away: they die loudly, stay dead, and new ones work."""

from __future__ import annotations

import asyncio
from typing import Final

from backplane_core.testing._kit.index import cuts_the_broker, link_check
from backplane_core.testing._kit.open_link import (
    OPEN,
    RECEIVE,
    SEND,
    SUBSCRIBE,
    UNSUBSCRIBE,
    expect_same,
    new_channel,
    open_links,
)
from backplane_core.testing._kit.waiting import expect_end, expect_nothing_left, expect_refusal, outage, run_together
from backplane_core.testing.harness import ContractError, Harness
from backplane_core.transport import Frame, Link, Lost

RECONNECT: Final = "the client library's own reconnecting: turn it off; a dead link stays dead, and core replaces it"


@cuts_the_broker
@link_check
async def check_a_cut_ends_receive(harness: Harness) -> None:
    """When the broker goes away, `receive()` raises `TransportError`; it neither waits for ever nor just ends."""
    channel = new_channel()
    async with open_links(harness, 2) as (idle, busy):
        await busy.subscribe(channel)
        await busy.send((channel, b"1"))
        await busy.wait_for_frames(channel, 1)
        async with outage(harness):
            await idle.expect_death("after the broker was cut")
            await busy.expect_death("after the broker was cut")


@cuts_the_broker
@link_check
async def check_calls_on_a_dead_link_raise(harness: Harness) -> None:
    """On a dead link `send`, `subscribe` and `unsubscribe` raise `TransportError`, even once the broker is back."""
    channel = new_channel()
    async with open_links(harness, 1) as (link,):
        await link.subscribe(channel)
        async with outage(harness):
            await link.expect_death("after the broker was cut")
            await _expect_all_refused(link.link, channel, "while the broker is away")
        await _expect_all_refused(link.link, channel, "after the broker came back")


async def _expect_all_refused(link: Link, channel: str, when: str) -> None:
    await expect_refusal(link.send([(channel, b"1")]), f"send() on a dead link {when}", RECONNECT)
    await expect_refusal(link.subscribe([new_channel()]), f"subscribe() on a dead link {when}", RECONNECT)
    await expect_refusal(link.unsubscribe([channel]), f"unsubscribe() on a dead link {when}", RECONNECT)


@cuts_the_broker
@link_check
async def check_a_send_to_a_cut_broker_is_not_confirmed(harness: Harness) -> None:
    """With `Traits.confirms`, `send` never returns for frames that a cut broker did not get."""
    async with open_links(harness, 1) as (link,):
        if not link.transport.traits.confirms:
            return
        async with outage(harness):
            await expect_refusal(link.link.send([(new_channel(), b"1")]), "send() right after the broker was cut", SEND)


@cuts_the_broker
@link_check
async def check_calls_pending_at_the_cut_end(harness: Harness) -> None:
    """Calls that wait for the broker when it goes away return or raise `TransportError`; none hangs."""
    channel = new_channel()
    async with open_links(harness, 3) as (one, two, three):
        await three.subscribe(channel)
        frames: list[Frame] = [(channel, b"x" * 1_000)] * 200
        calls = (
            (one.link.send(frames), "send()", SEND),
            (two.link.subscribe([new_channel() for _ in range(100)]), "subscribe()", SUBSCRIBE),
            (three.link.unsubscribe([channel]), "unsubscribe()", UNSUBSCRIBE),
        )
        pending = asyncio.create_task(
            run_together(
                *[expect_end(call, f"{what} that was pending at the cut", look_at) for call, what, look_at in calls]
            )
        )
        await asyncio.sleep(0)  # lets them begin
        try:
            async with outage(harness):
                await pending
        finally:
            pending.cancel()
            await asyncio.wait({pending})


@cuts_the_broker
@link_check
async def check_open_without_a_broker_raises(harness: Harness) -> None:
    """While the broker is away, `open` raises a retryable `TransportError` each time, and leaves nothing."""
    async with outage(harness), expect_nothing_left("an open() that failed", OPEN):
        transport = harness.make()
        for _ in range(3):
            error = await expect_refusal(transport.open(), "open() while the broker is away", OPEN)
            if not error.retryable:
                raise ContractError("TransportError with retryable=True", "retryable=False", "Transport.open")


@cuts_the_broker
@link_check
async def check_open_works_after_an_outage(harness: Harness) -> None:
    """Once the broker is back, `open` works, with the same transport and with a new one."""
    channel = new_channel()
    async with open_links(harness, 1) as (old,):
        async with outage(harness):
            await old.expect_death("after the broker was cut")
            await expect_refusal(old.transport.open(), "open() while the broker is away", OPEN)
        async with open_links(harness, 1) as (new,), open_links(harness, 1, old.transport) as (other,):
            await other.subscribe(channel)
            await new.send((channel, b"1"))
            expect_same(await other.read_all(new, channel), [b"1"], OPEN)


@cuts_the_broker
@link_check
async def check_a_dead_link_stays_dead(harness: Harness) -> None:
    """A link that died never comes back: it delivers nothing that is sent once the broker is back."""
    channel = new_channel()
    async with open_links(harness, 1) as (old,):
        await old.subscribe(channel)
        await old.send((channel, b"before"))
        await old.wait_for_frames(channel, 1)
        async with outage(harness):
            await old.expect_death("after the broker was cut")
        async with open_links(harness, 2) as (sender, witness):
            await witness.subscribe(channel)
            await sender.send((channel, b"after"))
            expect_same(await witness.read_all(sender, channel), [b"after"], RECEIVE)
            await expect_refusal(_first(old.link), "receive() of a dead link", RECONNECT)
            expect_same(old.payloads[channel], [b"before"], RECONNECT)
            await expect_refusal(old.link.send([(channel, b"late")]), "send() on a dead link", RECONNECT)
            expect_same(await witness.read_all(sender, channel), [b"after"], RECONNECT)


async def _first(link: Link) -> list[Frame | Lost]:
    return await anext(aiter(link.receive()))
