"""Checks on subscriptions: subscribe, unsubscribe, and both while frames flow."""

from __future__ import annotations

import asyncio

from backplane_core.testing._kit.index import link_check
from backplane_core.testing._kit.open_link import RECEIVE, SUBSCRIBE, UNSUBSCRIBE, fresh, links, many, same
from backplane_core.testing._kit.waiting import all_of
from backplane_core.testing.harness import Harness


@link_check
async def check_subscribe_returns_once_heard(harness: Harness) -> None:
    """A frame that another link sends right after `subscribe` returned is received."""
    async with links(harness, 3) as (sender, receiver, busy):
        for channels in [[fresh()] for _ in range(20)] + [many() for _ in range(5)]:
            # The broker is kept busy, so that a link that does not wait for its confirmation is too early.
            load = asyncio.create_task(busy.send(*[(fresh(), b"x" * 500)] * 2_000), name="contract check: load")
            try:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                await receiver.subscribe(*channels)
                await sender.send((channels[-1], b"now"))
                same(await receiver.settled(sender, channels[-1]), [b"now"], SUBSCRIBE)
                await load
            finally:
                load.cancel()
                await asyncio.wait({load})


@link_check
async def check_many_channels_in_one_call(harness: Harness) -> None:
    """One `subscribe` takes 512 channels, and one `unsubscribe` gives up 511 of them."""
    channels = many()
    async with links(harness, 2) as (sender, receiver):
        await receiver.subscribe(*channels)
        await sender.send(*[(channel, b"1") for channel in channels])
        for channel in channels:
            same(await receiver.heard(channel, 1), [b"1"], SUBSCRIBE)
        await receiver.unsubscribe(*channels[1:])
        await sender.send(*[(channel, b"2") for channel in reversed(channels)])
        same(await receiver.settled(sender, channels[0]), [b"1", b"2"], UNSUBSCRIBE)
        for channel in channels[1:]:
            same(receiver.payloads[channel], [b"1"], UNSUBSCRIBE)


@link_check
async def check_unsubscribe_stops_its_channel(harness: Harness) -> None:
    """A frame that is sent after `unsubscribe` returned is not received."""
    left, kept = fresh(), fresh()
    async with links(harness, 3) as (sender, receiver, witness):
        await receiver.subscribe(left, kept)
        await witness.subscribe(left)
        await sender.send((left, b"before"))
        await receiver.heard(left, 1)
        await receiver.unsubscribe(left)
        await sender.send((left, b"after"), (kept, b"other"))
        same(await witness.settled(sender, left), [b"before", b"after"], RECEIVE)
        same(await receiver.settled(sender, kept), [b"other"], UNSUBSCRIBE)
        same(receiver.payloads[left], [b"before"], UNSUBSCRIBE)


@link_check
async def check_unsubscribe_spares_other_channels(harness: Harness) -> None:
    """An `unsubscribe` loses no frame of another channel."""
    kept, left = fresh(), [fresh() for _ in range(20)]
    async with links(harness, 2) as (sender, receiver):
        await receiver.subscribe(kept, *left)
        for number, channel in enumerate(left):
            await receiver.unsubscribe(channel)
            await sender.send((kept, b"%d" % number))
        same(await receiver.settled(sender, kept), [b"%d" % number for number in range(len(left))], UNSUBSCRIBE)


@link_check
async def check_a_channel_can_be_heard_again(harness: Harness) -> None:
    """A channel that was unsubscribed can be subscribed again, and then each frame arrives once."""
    channel, other = fresh(), fresh()
    async with links(harness, 2) as (sender, receiver):
        await receiver.subscribe(other)
        expected: list[bytes] = []
        for number in range(5):
            await receiver.subscribe(channel)
            await sender.send((channel, b"heard %d" % number))
            expected.append(b"heard %d" % number)
            same(await receiver.heard(channel, len(expected)), expected, SUBSCRIBE)
            await receiver.unsubscribe(channel)
            await sender.send((channel, b"not heard %d" % number))
            await receiver.settled(sender, other)
        await receiver.subscribe(channel)
        same(await receiver.settled(sender, channel), expected, SUBSCRIBE)


@link_check
async def check_empty_calls_change_nothing(harness: Harness) -> None:
    """`subscribe`, `unsubscribe` and `send` of nothing return and change nothing."""
    channel = fresh()
    async with links(harness, 1) as (link,):
        await link.subscribe(channel)
        await link.subscribe()
        await link.unsubscribe()
        await link.send()
        await link.send((channel, b"still heard"))
        same(await link.settled(link, channel), [b"still heard"], "how the broker treats a command without operands")


@link_check
async def check_calls_may_overlap(harness: Harness) -> None:
    """`send`, `subscribe` and `unsubscribe` at once, on a link that is being read, disturb nothing."""
    steady, mine = fresh(), fresh()
    async with links(harness, 2) as (sender, receiver):
        await receiver.subscribe(steady, mine)

        async def traffic() -> None:
            for number in range(50):
                await sender.send(*[(steady, b"%d" % (number * 20 + count)) for count in range(20)])

        async def own_traffic() -> None:
            for number in range(50):
                await receiver.send((mine, b"%d" % number))

        async def churn() -> None:
            for number in range(50):
                channel = fresh()
                await receiver.subscribe(channel)
                await sender_of_churn.send((channel, b"%d" % number))
                same(await receiver.heard(channel, 1), [b"%d" % number], SUBSCRIBE)
                await receiver.unsubscribe(channel)

        async with links(harness, 1) as (sender_of_churn,):
            await all_of(traffic(), own_traffic(), churn())
        same(await receiver.settled(sender, steady), [b"%d" % number for number in range(1_000)], RECEIVE)
        same(await receiver.settled(receiver, mine), [b"%d" % number for number in range(50)], RECEIVE)


@link_check
async def check_a_second_subscriber_changes_nothing_for_the_first(harness: Harness) -> None:
    """A link that unsubscribes or closes takes nothing from another link on the same channel."""
    channel = fresh()
    async with links(harness, 3) as (sender, receiver, leaver):
        await receiver.subscribe(channel)
        await leaver.subscribe(channel)
        await leaver.unsubscribe(channel)
        await sender.send((channel, b"left"))
        await leaver.subscribe(channel)
        await leaver.close()
        await sender.send((channel, b"closed"))
        same(await receiver.settled(sender, channel), [b"left", b"closed"], "Link: nothing is shared between links")
