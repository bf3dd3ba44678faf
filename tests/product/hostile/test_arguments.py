"""An id, a union or a channel that may not be one is refused before anything is delivered, sent or opened."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from backplane_core import ConfigurationError, InvalidTargetError, Target, connect
from backplane_core._protocol.frame import MAX_EXCLUDED, MAX_TARGETS
from backplane_testservers import Broker

from tests.support.fleets import Fleet
from tests.support.sockets import settled

TARGET = Target.user("u1")

BAD_IDS: dict[str, Any] = {
    "empty": "",
    "1,025 bytes": "x" * 1_025,
    "1,025 bytes of two each": "é" * 512 + "x",
    "a lone surrogate": "c1\ud800",
    "surrogates the wrong way round": "\udc00\ud800",
    "bytes": b"c1",
    "a number": 1,
    "nothing": None,
    "a list": ["c1"],
    "a target": Target.connection("c1"),
}


def many(count: int) -> Iterable[Target]:
    return (Target.user(f"u{number}") for number in range(count))


async def test_a_bad_id_is_refused_wherever_it_stands_and_nobody_has_got_anything(fleet: Fleet) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    local, remote = await fleet.socket(here, "c1", TARGET), await fleet.socket(there, "c2", TARGET)
    before = here.stats()
    for name, bad in BAD_IDS.items():
        with pytest.raises(InvalidTargetError):
            await here.attach(bad, print)
        if bad is not None:  # None asks for an id to be made up
            with pytest.raises(InvalidTargetError):
                here.connection(bad, TARGET)
        if not isinstance(bad, Target):  # which may be excluded
            excluded: list[Any] = [[bad], ["c9", bad], (id_ for id_ in ("c9", bad))]
            for exclude in excluded:
                with pytest.raises(InvalidTargetError) as raised:
                    await here.publish(TARGET, "refused", exclude=exclude)
                assert "excluded connection id" in str(raised.value), name
            with pytest.raises(InvalidTargetError):
                here.publish_nowait([TARGET, Target.everyone()], "refused", exclude=excluded[0])
            union: list[Any] = [TARGET, bad]
            with pytest.raises(InvalidTargetError):
                await here.publish(union, "refused")
    singles: list[Any] = ["c1", b"c1", 5, [b"c1"], TARGET, [Target.everyone()]]
    for single in singles:
        with pytest.raises(InvalidTargetError):
            await here.publish(TARGET, "refused", exclude=single)
    assert (here.stats().published, here.connection_count) == (before.published, before.connections)
    assert await here.publish(TARGET, "fine") == 1
    await settled(here, sockets=[local, remote])
    assert local.events == remote.events == ["fine"]
    assert remote.gaps == []


async def test_more_targets_or_excluded_ids_than_other_pods_take_are_refused_and_as_many_arrive(fleet: Fleet) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    local, remote = await fleet.socket(here, "c1", TARGET), await fleet.socket(there, "c2", TARGET)
    with pytest.raises(InvalidTargetError, match=r"2049 targets, at most 2048"):
        await here.publish(many(MAX_TARGETS + 1), "refused")
    with pytest.raises(InvalidTargetError, match=r"65537 connection ids; at most 65536"):
        await here.publish(TARGET, "refused", exclude=[f"{number}" for number in range(MAX_EXCLUDED + 1)])
    assert (local.events, here.stats().published) == ([], 0)
    # Said twice is once; and everyone stands for all of them.
    assert await here.publish([*many(MAX_TARGETS), *many(MAX_TARGETS)], "many") == 1
    assert await here.publish([*many(MAX_TARGETS + 1), Target.everyone()], "all") == 1
    assert await here.publish(TARGET, "not c3", exclude=[f"{number}" for number in range(MAX_EXCLUDED)]) == 1
    await settled(here, sockets=[local, remote])
    assert local.events == remote.events == ["many", "all", "not c3"]
    assert there.stats().decode_errors == 0


@pytest.mark.parametrize(
    "channel",
    ["", ":", "a:", ":a", "a::b", "a b", "a\r\nb", "a\0", "a\n", "a.b", "*", ">", "a:*", "a:>", "a:@1", "@", "=a",
     "{a}", "é", "a/../b", "$SYS", "a" * 201, "_INBOX.x", "\ud800", b"a", 1, None],
)  # fmt: skip
@pytest.mark.parametrize("routing", ["broadcast", "interest"])
def test_a_channel_that_a_broker_could_misread_is_refused_before_anything_is_opened(
    shared_broker: Broker, channel: Any, routing: Any
) -> None:
    with pytest.raises(ConfigurationError, match="words of"):
        connect(shared_broker.url, channel=channel, routing=routing)
