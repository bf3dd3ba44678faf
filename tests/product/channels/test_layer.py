"""The contract of a channel layer: names, messages, groups, capacity, expiry, over both brokers and routings."""

from __future__ import annotations

import asyncio
import math
import random
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from backplane_channels import BackplaneChannelLayer, NormalChannelError
from backplane_core import Target, connect
from channels.exceptions import ChannelFull, StopConsumer  # type: ignore[import-untyped]

from tests.product.channels.conftest import MakeLayer
from tests.product.channels.reading import read, read_all
from tests.support.waiting import DEADLINE_S, until

HI = {"type": "chat.message", "text": "hi"}


async def test_a_name_says_where_its_consumer_is(here: BackplaneChannelLayer) -> None:
    random.seed(1)
    first = await here.new_channel()
    random.seed(1)
    second = await here.new_channel()
    other = await here.new_channel("test-prefix")
    assert len({first, second, other}) == 3
    assert re.fullmatch(r"specific\.[0-9a-f]{16}![0-9a-f]{24}", first)
    assert other.startswith("test-prefix.")
    with pytest.raises(TypeError, match="Channel name must be a valid unicode string"):
        await here.new_channel("x" * 80)


async def test_a_message_reaches_a_consumer_wherever_it_is(
    here: BackplaneChannelLayer, there: BackplaneChannelLayer
) -> None:
    channel = await here.new_channel()
    await here.send(channel, HI)
    assert await read(here, channel) == HI
    await there.send(channel, HI)  # an event loop without consumers
    assert await read(here, channel) == HI
    await there.new_channel()
    await there.send(channel, HI)
    assert await read(here, channel) == HI


async def test_messages_come_in_order(here: BackplaneChannelLayer, there: BackplaneChannelLayer) -> None:
    channel = await here.new_channel()
    await there.new_channel()
    for number in range(50):
        await there.send(channel, {"type": str(number)})
    assert [(await read(here, channel))["type"] for _ in range(50)] == [str(number) for number in range(50)]


async def test_a_group_is_who_joined_it(here: BackplaneChannelLayer, there: BackplaneChannelLayer) -> None:
    first, second, third = [await here.new_channel() for _ in range(3)]
    far = await there.new_channel()
    for layer, channel in ((here, first), (here, second), (here, third), (there, far)):
        await layer.group_add("g", channel)
        await layer.group_add("g", channel)  # twice is once
    await here.group_discard("g", second)
    await here.group_discard("g", second)
    await here.group_discard("never", second)
    await here.group_send("g", HI)
    assert [await read(here, first), await read(here, third), await read(there, far)] == [HI] * 3
    assert await read_all(here, second) == []
    assert await read_all(here, first) == []


async def test_any_process_may_add_any_channel(here: BackplaneChannelLayer, there: BackplaneChannelLayer) -> None:
    channel = await here.new_channel()
    await there.group_add("g", channel)  # from an event loop without consumers
    await there.group_send("g", HI)
    assert await read(here, channel) == HI
    await there.new_channel()
    await there.group_add("h", channel)
    await there.group_send("h", HI)
    assert await read(here, channel) == HI
    await there.group_discard("g", channel)
    await there.group_discard("h", channel)
    await here.group_send("g", HI)
    await here.group_send("h", HI)
    assert await read_all(here, channel) == []


async def test_two_readers_never_share_a_message(here: BackplaneChannelLayer) -> None:
    first, second = await here.new_channel(), await here.new_channel()
    await here.group_add("g", first)
    await here.group_add("g", second)
    await here.group_send("g", {"type": "x", "list": []})
    mine = await read(here, first)
    mine["list"].append("changed")
    assert await read(here, second) == {"type": "x", "list": []}


@pytest.mark.parametrize(
    "value",
    [b"\x00\xff", -(2**63), 1.5, math.inf, {"a": [None, True, {"b": b"deep"}]}, {1: "one"}, "ä\u2028", (1, 2)],
    ids=["bytes", "int", "float", "infinity", "nested", "int keys", "text", "tuple"],
)
async def test_a_message_arrives_as_it_was_sent(
    here: BackplaneChannelLayer, there: BackplaneChannelLayer, value: Any
) -> None:
    channel = await here.new_channel()
    await there.new_channel()
    await there.send(channel, {"type": "x", "value": value})
    await here.send(channel, {"type": "x", "value": value})
    there.publisher.send(channel, {"type": "x", "value": value})
    wanted = [1, 2] if value == (1, 2) else value
    assert [(await read(here, channel))["value"] for _ in range(3)] == [wanted] * 3


async def test_what_other_layers_refuse_travels_too(here: BackplaneChannelLayer) -> None:
    channel = await here.new_channel()
    now = datetime.now(UTC)
    await here.send(channel, {"type": "x", "when": now, "bytes": b"1", "nan": math.nan})
    message = await read(here, channel)
    assert (message["when"], message["bytes"]) == (now, b"1")
    assert math.isnan(message["nan"])


async def test_a_consumer_may_send_its_name(here: BackplaneChannelLayer) -> None:
    channel = await here.new_channel()
    await here.send(channel, {"type": "x", "from": channel, "more": [channel], "bytes": b""})
    message = await read(here, channel)
    assert (message["from"], type(message["from"]), message["more"]) == (channel, str, [channel])


@pytest.mark.parametrize("full", ["capacity", "bytes"])
async def test_who_sends_to_a_full_consumer_of_its_own_process_is_told(layers: MakeLayer, full: str) -> None:
    layer = layers(capacity=3) if full == "capacity" else layers(capacity_bytes=60)
    channel = await layer.new_channel()
    for number in range(3):
        await layer.send(channel, {"type": str(number), "xx": 0})
    with pytest.raises(ChannelFull):
        await layer.send(channel, {"type": "3", "xx": 0})
    assert [(await read(layer, channel))["type"] for _ in range(3)] == ["0", "1", "2"]
    await layer.send(channel, {"type": "4"})
    assert (await read(layer, channel))["type"] == "4"


async def test_channels_have_capacities_by_name(layers: MakeLayer) -> None:
    layer = layers(capacity=3, channel_capacity={"tiny*": 1, re.compile("^small"): 2})
    for prefix, capacity in (("tiny", 1), ("small", 2), ("other", 3)):
        channel = await layer.new_channel(prefix)
        for _ in range(capacity):
            await layer.send(channel, HI)
        with pytest.raises(ChannelFull):
            await layer.send(channel, HI)


async def test_a_group_passes_by_who_is_full_and_says_so_there(layers: MakeLayer) -> None:
    layer, there = layers(capacity=2, on_gap="backplane.gap"), layers()
    full, other = await layer.new_channel(), await layer.new_channel()
    await there.new_channel()
    for channel in (full, other):
        await layer.group_add("g", channel)
    for number in range(5):
        await there.group_send("g", {"type": str(number)})
        assert (await read(layer, other))["type"] == str(number)
    stats = layer.stats()
    assert stats is not None
    assert stats.overflowed == 3
    got = [await read(layer, full) for _ in range(3)]
    assert [message["type"] for message in got] == ["0", "1", "backplane.gap"]
    assert (got[2]["cause"], got[2]["missed"]) == ("overflow", 3)
    assert got[2]["since"] <= got[2]["until"]
    await there.group_send("g", {"type": "5"})
    assert (await read(layer, full))["type"] == "5"


async def test_a_message_that_waited_too_long_is_a_gap_in_its_place(layers: MakeLayer) -> None:
    layer = layers(expiry=0.2, on_gap="backplane.gap")
    channel = await layer.new_channel()
    await layer.send(channel, {"type": "old"})
    await layer.send(channel, {"type": "old too"})
    await asyncio.sleep(0.25)  # it is time that makes them old
    await layer.send(channel, {"type": "new"})
    gap, new = await read(layer, channel), await read(layer, channel)
    assert (gap["type"], gap["cause"], gap["missed"], new["type"]) == ("backplane.gap", "overflow", 2, "new")
    assert gap["until"] - gap["since"] >= 0.2


async def test_what_is_old_makes_room_and_without_on_gap_nothing_is_made_up(layers: MakeLayer) -> None:
    layer = layers(expiry=0.2, capacity=2)
    channel = await layer.new_channel()
    await layer.send(channel, {"type": "old"})
    await layer.send(channel, {"type": "old"})
    await asyncio.sleep(0.25)
    await layer.send(channel, {"type": "new"})
    assert await read_all(layer, channel) == ["new"]


async def test_a_cancelled_receive_loses_nothing_and_removes_nothing(here: BackplaneChannelLayer) -> None:
    channel = await here.new_channel()
    await here.group_add("g", channel)
    for number in range(100):
        reading = asyncio.ensure_future(here.receive(channel))
        await asyncio.sleep(0)
        if number % 2:
            await here.group_send("g", {"type": str(number)})  # it is woken, and cancelled before it runs
            reading.cancel()
        else:
            reading.cancel()
            await here.group_send("g", {"type": str(number)})
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert (await read(here, channel))["type"] == str(number)


async def test_several_readers_of_one_channel_take_turns(here: BackplaneChannelLayer) -> None:
    channel = await here.new_channel()
    readers = [asyncio.ensure_future(here.receive(channel)) for _ in range(3)]
    await asyncio.sleep(0)
    await here.send(channel, {"type": "0"})
    readers[0].cancel()
    await here.send(channel, {"type": "1"})
    async with asyncio.timeout(DEADLINE_S):
        assert {message["type"] for message in await asyncio.gather(*readers[1:])} == {"0", "1"}


@pytest.mark.parametrize("name", ["=+135!", "a!b!c", "", "ä", "x" * 100, 7, None])
async def test_a_name_of_the_wrong_form_is_a_type_error(here: BackplaneChannelLayer, name: Any) -> None:
    channel = await here.new_channel()
    text = "name must be a valid unicode string with length < 100"
    for call in (here.send(name, HI), here.receive(name), here.group_add("g", name), here.group_add(name, channel)):
        with pytest.raises(TypeError, match=text):
            await call
    for call in (here.group_discard("g", name), here.group_discard(name, channel), here.group_send(name, HI)):
        with pytest.raises(TypeError, match=text):
            await call


@pytest.mark.parametrize("message", ["text", None, [], {"type": "x", "__asgi_channel__": "c"}])
async def test_only_a_dict_is_a_message(here: BackplaneChannelLayer, message: Any) -> None:
    channel = await here.new_channel()
    for call in (here.send(channel, message), here.group_send("g", message)):
        with pytest.raises(AssertionError):
            await call
    for send in (here.publisher.send, here.publisher.group_send):
        with pytest.raises(AssertionError):
            send("a!b", message)


async def test_what_no_message_may_hold_is_a_type_error_without_its_text(here: BackplaneChannelLayer) -> None:
    channel = await here.new_channel()
    for call in (here.send(channel, {"x": object()}), here.group_send("g", {"secret": object(), "b": b""})):
        with pytest.raises(TypeError) as error:
            await call
        assert "secret" not in str(error.value)
    assert await read_all(here, channel) == []


async def test_a_normal_channel_is_refused_with_what_to_do(here: BackplaneChannelLayer) -> None:
    text = "'work' is a normal channel.*another channel layer"
    for call in (here.send("work", HI), here.receive("work"), here.group_add("g", "work")):
        with pytest.raises(NormalChannelError, match=text):
            await call
    with pytest.raises(NotImplementedError):
        here.publisher.send("work", HI)


async def test_nobody_reads_from_a_channel_of_another(
    here: BackplaneChannelLayer, there: BackplaneChannelLayer
) -> None:
    channel = await here.new_channel()
    for name in (channel, "not-a-client!of-ours"):
        with pytest.raises(AssertionError, match="not a channel of this event loop"):
            await there.receive(name)


async def test_what_is_no_message_ends_no_consumer(
    here: BackplaneChannelLayer, url: str, routing: Any, caplog: pytest.LogCaptureFixture
) -> None:
    channel = await here.new_channel()
    await here.group_add("g", channel)
    group = Target("channels_group", "g")
    async with connect(url, channel=f"backplane:{here.prefix}", routing=routing) as stranger:
        for event in ("text", 7, ["msgpack", "no base64"], ["msgpack", "AAAA"], ["msgpack"], ["other"], HI):
            await stranger.publish(group, event)
        assert await read(here, channel) == HI
    assert len([record for record in caplog.records if "was no message" in record.getMessage()]) == 1


async def test_flush_forgets_messages_and_groups_and_consumers_go_on(
    here: BackplaneChannelLayer, there: BackplaneChannelLayer
) -> None:
    channel = await here.new_channel()
    await here.group_add("g", channel)
    await here.send(channel, HI)
    reading = asyncio.ensure_future(here.receive(await here.new_channel()))
    await asyncio.sleep(0)
    await here.flush()
    await there.group_send("g", HI)
    await there.send(channel, {"type": "after"})
    assert (await read(here, channel))["type"] == "after"
    assert not reading.done()
    reading.cancel()


async def test_closing_ends_who_waits_and_the_layer_starts_anew(here: BackplaneChannelLayer) -> None:
    reading = asyncio.ensure_future(here.receive(await here.new_channel()))
    await asyncio.sleep(0)
    await here.close()
    with pytest.raises(StopConsumer):
        await reading
    channel = await here.new_channel()
    await here.send(channel, HI)
    assert await read(here, channel) == HI


async def test_an_order_to_the_fleet_ends_a_consumer(here: BackplaneChannelLayer, url: str, routing: Any) -> None:
    channel = await here.new_channel()
    await here.send(channel, HI)
    async with connect(url, channel=f"backplane:{here.prefix}", routing=routing) as operator:
        assert (await operator.fleet.close(Target.connection(channel))).total == 1
    assert await read(here, channel) == HI
    with pytest.raises(StopConsumer):
        await read(here, channel)


async def test_a_channel_goes_with_its_name(here: BackplaneChannelLayer) -> None:
    channel = await here.new_channel()
    await here.group_add("g", channel)
    plain = str(channel)
    stats = here.stats()
    assert stats is not None
    assert stats.connections == 1
    reading = asyncio.ensure_future(here.receive(channel))
    await asyncio.sleep(0)
    del channel
    await here.group_send("g", HI)
    async with asyncio.timeout(DEADLINE_S):
        assert await reading == HI  # who waits holds the name
    del reading

    def connections() -> int:
        stats = here.stats()
        return -1 if stats is None else stats.connections

    await until(lambda: connections() == 0, "the channel is gone")
    await here.send(plain, HI)  # to nobody
    await here.group_add("g", plain)
    await here.group_discard("g", plain)
    with pytest.raises(AssertionError, match="as long as it keeps the name"):
        await here.receive(plain)


async def test_it_says_whether_it_is_ready(here: BackplaneChannelLayer) -> None:
    assert not here.ready().live
    assert here.stats() is None
    channel = await here.new_channel()
    assert here.ready().live
    assert channel
