"""While the broker is away: what a layer goes on with, what it says, and how it comes back."""

# pyright: reportUnknownMemberType=false
# -- Django's signals are not typed

from __future__ import annotations

import uuid

import pytest
from backplane_channels import BackplaneChannelLayer, gap_reported
from backplane_core import Gap
from backplane_testservers import OwnBroker

from tests.product.channels.reading import read
from tests.support.waiting import until

HI = {"type": "hi"}


def two_layers(url: str) -> tuple[BackplaneChannelLayer, BackplaneChannelLayer]:
    prefix = f"t-{uuid.uuid4().hex}"
    here = BackplaneChannelLayer(url, prefix=prefix, on_gap="backplane.gap")
    return here, BackplaneChannelLayer(url, prefix=prefix)


async def test_a_group_of_another_process_is_not_joined_in_silence_while_the_broker_is_away(
    broker: OwnBroker,
) -> None:
    here, there = two_layers(broker.url)
    channel, other = await here.new_channel(), await there.new_channel()
    broker.kill()
    await until(lambda: not there.ready().live, "it knows that the broker is away")
    for change in (there.group_add, there.group_discard):
        with pytest.raises(TimeoutError, match=r"other processes can't be asked now: .+"):
            await change("g", channel)
    await there.group_add("g", other)  # its own needs nobody
    await there.group_send("g", HI)
    assert await read(there, other) == HI
    broker.restart()
    await until(lambda: there.ready().live and here.ready().live, "both are back")
    await there.group_add("g", channel)
    await there.group_send("g", {"type": "after"})
    messages = [await read(here, channel), await read(here, channel)]
    assert [message["type"] for message in messages] == ["backplane.gap", "after"]
    await here.close()
    await there.close()


async def test_a_layer_starts_without_a_broker_and_the_signal_says_when_it_may_have_missed_something(
    broker: OwnBroker,
) -> None:
    broker.kill()
    here, there = two_layers(broker.url)
    gaps: list[Gap] = []

    def note(sender: object, layer: object, gap: Gap, **_: object) -> None:
        assert (sender, layer) == (BackplaneChannelLayer, here)
        gaps.append(gap)

    channel = await here.new_channel()
    await here.group_add("g", channel)
    await here.group_send("g", HI)
    assert await read(here, channel) == HI
    there.publisher.group_send("g", {"type": "waits"})
    gap_reported.connect(note)
    broker.restart()
    await until(lambda: here.ready().live, "it is there")
    await here.send(channel, {"type": "last"})
    got = [(await read(here, channel))["type"]]
    while got[-1] != "last":
        got.append((await read(here, channel))["type"])
    assert "backplane.gap" in got  # in which "waits" may lie
    assert gaps
    gap_reported.disconnect(note)
    await here.close()
    await there.close()
