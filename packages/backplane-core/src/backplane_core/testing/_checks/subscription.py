"""Checks on subscriptions: subscribe, unsubscribe, and both while frames flow."""

from __future__ import annotations

import asyncio
from typing import Final

from backplane_core.testing._kit.index import link_check
from backplane_core.testing._kit.open_link import (
    RECEIVE,
    SUBSCRIBE,
    UNSUBSCRIBE,
    busy_channels,
    expect_same,
    many_channels,
    new_channel,
    open_links,
)
from backplane_core.testing._kit.waiting import run_together
from backplane_core.testing.harness import Harness

OWN: Final = "Link.subscribe: it returns once all of its own channels are confirmed, not once something is"


@link_check
async def check_subscribe_returns_once_heard(harness: Harness) -> None:
    """A frame that another link sends right after `subscribe` returned is received."""
    async with open_links(harness, 3) as (sender, receiver, busy):
        for channels in [[new_channel()] for _ in range(20)] + [busy_channels(harness) for _ in range(5)]:
            # The broker is kept busy, so that a link that does not wait for its confirmation is overtaken.
            load = asyncio.create_task(busy.send(*[(new_channel(), b"x" * 500)] * 2_000), name="contract check: load")
            try:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                await receiver.subscribe(*channels)
                await sender.send((channels[-1], b"now"))
                expect_same(await receiver.read_all(sender, channels[-1]), [b"now"], SUBSCRIBE)
                await load
            finally:
                load.cancel()
                await asyncio.wait({load})


@link_check
async def check_many_channels_in_one_call(harness: Harness) -> None:
    """One `subscribe` takes 512 channels, and one `unsubscribe` takes 511 of them."""
    channels = many_channels()
    async with open_links(harness, 2) as (sender, receiver):
        await receiver.subscribe(*channels)
        await sender.send(*[(channel, b"1") for channel in channels])
        for channel in channels:
            expect_same(await receiver.wait_for_frames(channel, 1), [b"1"], SUBSCRIBE)
        await receiver.unsubscribe(*channels[1:])
        await sender.send(*[(channel, b"2") for channel in reversed(channels)])
        expect_same(await receiver.read_all(sender, channels[0]), [b"1", b"2"], UNSUBSCRIBE)
        for channel in channels[1:]:
            expect_same(receiver.payloads[channel], [b"1"], UNSUBSCRIBE)


@link_check
async def check_each_call_waits_for_its_own_channels(harness: Harness) -> None:
    """Each of several `subscribe` calls returns once its own channels are heard, whatever the broker confirms first."""
    async with open_links(harness, 2) as (sender, receiver):

        async def expect_heard(channels: list[str]) -> None:
            await receiver.subscribe(*channels)
            await sender.send(*[(channel, b"now") for channel in channels])
            for channel in channels:
                expect_same(await receiver.wait_for_frames(channel, 1), [b"now"], OWN)

        for _ in range(3):
            await run_together(expect_heard(busy_channels(harness)), expect_heard([new_channel()]), expect_heard([]))


@link_check
async def check_unsubscribe_stops_its_channel(harness: Harness) -> None:
    """A frame that is sent after `unsubscribe` returned is not received."""
    left, kept = new_channel(), new_channel()
    async with open_links(harness, 3) as (sender, receiver, witness):
        await receiver.subscribe(left, kept)
        await witness.subscribe(left)
        await sender.send((left, b"before"))
        await receiver.wait_for_frames(left, 1)
        await receiver.unsubscribe(left)
        await sender.send((left, b"after"), (kept, b"other"))
        expect_same(await witness.read_all(sender, left), [b"before", b"after"], RECEIVE)
        expect_same(await receiver.read_all(sender, kept), [b"other"], UNSUBSCRIBE)
        expect_same(receiver.payloads[left], [b"before"], UNSUBSCRIBE)


@link_check
async def check_unsubscribe_spares_other_channels(harness: Harness) -> None:
    """Unsubscribing from a channel loses no frame of another one."""
    kept, left = new_channel(), [new_channel() for _ in range(20)]
    async with open_links(harness, 2) as (sender, receiver):
        await receiver.subscribe(kept, *left)
        for number, channel in enumerate(left):
            await receiver.unsubscribe(channel)
            await sender.send((kept, b"%d" % number))
        expect_same(await receiver.read_all(sender, kept), [b"%d" % number for number in range(len(left))], UNSUBSCRIBE)


@link_check
async def check_a_channel_can_be_heard_again(harness: Harness) -> None:
    """A channel can be subscribed to again after `unsubscribe`, and then each frame comes once."""
    channel, other = new_channel(), new_channel()
    async with open_links(harness, 2) as (sender, receiver):
        await receiver.subscribe(other)
        expected: list[bytes] = []
        for number in range(5):
            await receiver.subscribe(channel)
            await sender.send((channel, b"heard %d" % number))
            expected.append(b"heard %d" % number)
            expect_same(await receiver.wait_for_frames(channel, len(expected)), expected, SUBSCRIBE)
            await receiver.unsubscribe(channel)
            await sender.send((channel, b"not heard %d" % number))
            await receiver.read_all(sender, other)
        await receiver.subscribe(channel)
        expect_same(await receiver.read_all(sender, channel), expected, SUBSCRIBE)


@link_check
async def check_empty_calls_change_nothing(harness: Harness) -> None:
    """`subscribe`, `unsubscribe` and `send` of nothing return and change nothing."""
    channel = new_channel()
    async with open_links(harness, 1) as (link,):
        await link.subscribe(channel)
        await link.subscribe()
        await link.unsubscribe()
        await link.send()
        await link.send((channel, b"still heard"))
        expect_same(
            await link.read_all(link, channel),
            [b"still heard"],
            "what the broker makes of a command without arguments",
        )


@link_check
async def check_calls_may_overlap(harness: Harness) -> None:
    """`send`, `subscribe` and `unsubscribe` may run at the same time on a link that is being read."""
    steady, mine = new_channel(), new_channel()
    async with open_links(harness, 2) as (sender, receiver):
        await receiver.subscribe(steady, mine)

        async def traffic() -> None:
            for number in range(50):
                await sender.send(*[(steady, b"%d" % (number * 20 + count)) for count in range(20)])

        async def own_traffic() -> None:
            for number in range(50):
                await receiver.send((mine, b"%d" % number))

        async def churn() -> None:
            for number in range(50):
                channel = new_channel()
                await receiver.subscribe(channel)
                await sender_of_churn.send((channel, b"%d" % number))
                expect_same(await receiver.wait_for_frames(channel, 1), [b"%d" % number], SUBSCRIBE)
                await receiver.unsubscribe(channel)

        async with open_links(harness, 1) as (sender_of_churn,):
            await run_together(traffic(), own_traffic(), churn())
        expect_same(await receiver.read_all(sender, steady), [b"%d" % number for number in range(1_000)], RECEIVE)
        expect_same(await receiver.read_all(receiver, mine), [b"%d" % number for number in range(50)], RECEIVE)


@link_check
async def check_a_second_subscriber_changes_nothing_for_the_first(harness: Harness) -> None:
    """A link that unsubscribes or closes takes nothing from another link on the same channel."""
    channel = new_channel()
    async with open_links(harness, 3) as (sender, receiver, leaver):
        await receiver.subscribe(channel)
        await leaver.subscribe(channel)
        await leaver.unsubscribe(channel)
        await sender.send((channel, b"left"))
        await leaver.subscribe(channel)
        await leaver.close()
        await sender.send((channel, b"closed"))
        expect_same(
            await receiver.read_all(sender, channel),
            [b"left", b"closed"],
            "Link: nothing is shared between links",
        )
