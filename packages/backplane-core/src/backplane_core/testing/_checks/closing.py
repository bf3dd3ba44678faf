"""Checks on opening and closing: nothing is opened too early, nothing is left behind."""

from __future__ import annotations

import asyncio
from typing import Final, cast

from backplane_core.testing._kit.index import cuts_the_broker, link_check
from backplane_core.testing._kit.open_link import (
    ACLOSE,
    OPEN,
    SEND,
    SUBSCRIBE,
    expect_same,
    new_channel,
    open_links,
)
from backplane_core.testing._kit.waiting import expect_end, expect_nothing_left, expect_return, outage, run_together
from backplane_core.testing.harness import ContractError, Harness
from backplane_core.transport import Frame, LeavingLink, Link, Proven, ProvingLink, Traits, find_disagreement

LEAVING: Final = "LeavingLink.leaving: it returns once the broker has announced the link's end, and never otherwise"
LEAST_PAYLOAD_BYTES: Final = 256
"""About the size of core's own beats."""


@link_check
async def check_traits_are_sane(harness: Harness) -> None:
    """`traits` are `Traits`, before and after `open`, and what `open` returns is a `Link`."""
    transport = harness.make()
    before = cast("object", transport.traits)
    async with open_links(harness, 1, transport) as (link,):
        after = cast("object", transport.traits)
        for when, traits in (("before", before), ("after", after)):
            if not isinstance(traits, Traits):
                raise ContractError(f"Traits {when} open()", f"a {type(traits).__name__}", "Transport.traits")
            limit = traits.max_payload_bytes
            if limit is not None and limit < LEAST_PAYLOAD_BYTES:
                expected = f"room for core's own frames, {LEAST_PAYLOAD_BYTES} bytes"
                raise ContractError(expected, f"max_payload_bytes={limit} {when} open()", "Transport.traits")
        if not isinstance(cast("object", link.link), Link):
            raise ContractError("an object with the five methods of Link", repr(type(link.link)), "Transport.open")


@link_check
async def check_traits_hold(harness: Harness) -> None:
    """A link has `proven` and `leaving` where `traits` declare them, and only there; `proven` answers as they say."""
    async with open_links(harness, 1) as (link,):
        traits = link.transport.traits
        problem = find_disagreement(traits, link.link)
        if problem is not None:
            raise ContractError("traits that say what the link does", problem, "Transport.traits")
        if traits.nodes == "several":
            proven = cast("object", cast("ProvingLink", link.link).proven())
            if not isinstance(proven, Proven):
                raise ContractError("a Proven", f"a {type(proven).__name__}", "ProvingLink.proven")
            if traits.single_stream and proven.received_until is not None:
                expected = "received_until=None, as single_stream=True says that confirmed sends prove it"
                raise ContractError(expected, "a time", "ProvingLink.proven")


@cuts_the_broker
@link_check
async def check_making_a_transport_opens_nothing(harness: Harness) -> None:
    """A transport is only settings until `open`: creating it makes no task and no socket, with or without a broker."""
    async with expect_nothing_left("creating a transport", "the transport's constructor"):
        harness.make()
    async with outage(harness), expect_nothing_left("creating a transport", "the transport's constructor"):
        harness.make()


@link_check
async def check_aclose_leaves_nothing(harness: Harness) -> None:
    """`aclose` leaves no task and no socket, whether the link was used or not."""
    channel = new_channel()
    async with expect_nothing_left("aclose()", ACLOSE):
        async with open_links(harness, 2) as (sender, receiver):
            await receiver.subscribe(channel)
            await sender.send((channel, b"1"))
            await receiver.wait_for_frames(channel, 1)
        async with open_links(harness, 1):
            pass
        transport = harness.make()
        unread = await expect_return(transport.open(), "open()", OPEN)
        await expect_return(unread.aclose(), "aclose() of a link that nobody reads", ACLOSE)


@cuts_the_broker
@link_check
async def check_a_dead_link_closes(harness: Harness) -> None:
    """`aclose` of a dead link returns, raises nothing and leaves nothing, while the broker is away and afterwards."""
    async with open_links(harness, 1):  # what the client library keeps for all links exists from now on
        pass
    async with expect_nothing_left("aclose() of a dead link", ACLOSE), open_links(harness, 2) as (one, other):
        async with outage(harness):
            await one.expect_death("after the broker was cut")
            await other.expect_death("after the broker was cut")
            await one.aclose()
        await other.aclose()


@link_check
async def check_aclose_ends_pending_calls(harness: Harness) -> None:
    """`aclose` ends every pending call, `receive` included: it returns or raises `TransportError`, and never hangs."""
    frames: list[Frame] = [(new_channel(), b"x" * 1_000)] * 200
    async with open_links(harness, 2) as (one, other):
        pending = asyncio.create_task(
            run_together(
                expect_end(one.link.send(frames), "send() that was pending at aclose()", SEND),
                expect_end(
                    other.link.subscribe([new_channel()]), "subscribe() that was pending at aclose()", SUBSCRIBE
                ),
            )
        )
        await asyncio.sleep(0)  # lets them begin
        await asyncio.sleep(0)
        try:
            await run_together(one.close(), other.close())
            await pending
            for link in (one, other):
                await link.expect_end("after aclose()")
        finally:
            pending.cancel()
            await asyncio.wait({pending})


@link_check
async def check_nothing_arrives_after_aclose(harness: Harness) -> None:
    """A closed link yields no frame that was sent after `aclose` returned."""
    channel = new_channel()
    async with open_links(harness, 3) as (sender, closed, witness):
        await closed.subscribe(channel)
        await witness.subscribe(channel)
        await sender.send((channel, b"before"))
        await closed.wait_for_frames(channel, 1)
        await closed.close()
        await sender.send((channel, b"after"))
        expect_same(await witness.read_all(sender, channel), [b"before", b"after"], SUBSCRIBE)
        expect_same(closed.payloads[channel][:2], [b"before"], ACLOSE)


@link_check
async def check_aclose_returns_with_frames_unread(harness: Harness) -> None:
    """`aclose` returns and leaves nothing, even if frames wait that nobody has taken from `receive`."""
    channel = new_channel()
    async with expect_nothing_left("aclose()", ACLOSE), open_links(harness, 2) as (sender, receiver):
        await receiver.subscribe(channel)
        receiver.gate.clear()
        for _ in range(20):
            await sender.send(*[(channel, b"x" * 1_000)] * 200)
        await receiver.aclose()


@link_check
async def check_leaving_waits_for_the_broker(harness: Harness) -> None:
    """`LeavingLink.leaving` returns only once the broker has announced the end; waiting for it does no harm."""
    channel = new_channel()
    async with expect_nothing_left("a link whose leaving() was cancelled", LEAVING), open_links(harness, 1) as (link,):
        if not link.transport.traits.announces_leave:
            return
        leaver = cast("LeavingLink", link.link)
        await link.subscribe(channel)
        for payload in (b"1", b"2"):
            waiting = asyncio.create_task(leaver.leaving())
            try:
                await link.send((channel, payload))
                await link.wait_for_frames(channel, int(payload))
                if waiting.done():
                    raise ContractError("leaving() waits while the broker keeps the link", "it returned", LEAVING)
            finally:
                waiting.cancel()
                await asyncio.wait({waiting})
                _ = waiting.cancelled() or waiting.exception()
        expect_same(await link.read_all(link, channel), [b"1", b"2"], LEAVING)
