"""A refused event reaches nobody, raises the right error, and leaves the link up."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from backplane_core import EventEncodeError, EventTooLargeError, Target
from backplane_testservers import NatsServer

from tests.conftest import StartServer
from tests.support.fleets import Fleet
from tests.support.sockets import settled

CYCLE: list[Any] = []
CYCLE.append(CYCLE)

REFUSED: dict[str, Any] = {
    "NaN": {"x": float("nan")},
    "infinity": [float("inf")],
    "bytes": b"raw",
    "datetime": {"at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)},
    "a set": {"ids": {1, 2}},
    "a cycle": CYCLE,
    "a lone surrogate": "\ud800",
    "a key that is no string": {1: "one"},
}


@pytest.mark.parametrize("event", REFUSED.values(), ids=REFUSED.keys())
async def test_an_event_that_is_not_json_reaches_nobody_and_leaves_the_link_up(fleet: Fleet, event: Any) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    local = await fleet.socket(here, "c1", Target.user("u1"))
    remote = await fleet.socket(there, "c2", Target.user("u1"))
    with pytest.raises(EventEncodeError):
        await here.publish(Target.user("u1"), event)
    assert await here.publish(Target.user("u1"), "fine") == 1
    await settled(here, sockets=[local, remote])
    assert local.events == remote.events == ["fine"]
    assert here.stats().links == there.stats().links == 1
    assert here.stats().decode_errors == there.stats().decode_errors == 0
    assert remote.gaps == []


async def test_an_event_over_the_limit_reaches_nobody_and_leaves_the_link_up(fleet: Fleet) -> None:
    here, there = await fleet.pod(max_event_bytes=1_000), await fleet.pod()
    local = await fleet.socket(here, "c1", Target.user("u1"))
    remote = await fleet.socket(there, "c2", Target.user("u1"))
    with pytest.raises(EventTooLargeError) as error:
        await here.publish(Target.user("u1"), "x" * 999)
    assert (error.value.size, error.value.limit, error.value.is_brokers) == (1_001, 1_000, False)
    assert "raise max_event_bytes" in str(error.value)
    assert await here.publish(Target.user("u1"), "x" * 998) == 1
    await settled(here, sockets=[local, remote])
    assert local.events == remote.events == ["x" * 998]
    assert here.stats().links == there.stats().links == 1


@pytest.mark.parametrize("routing", ["broadcast", "interest"])
async def test_an_event_over_the_brokers_own_limit_reaches_nobody_and_leaves_the_link_up(
    start: StartServer, channel: str, routing: str
) -> None:
    server = start(NatsServer(max_payload=4_096))
    fleet = Fleet(server.url, {"channel": channel, "routing": routing})
    async with fleet.stack:
        here, there = await fleet.pod(), await fleet.pod()
        local = await fleet.socket(here, "c1", Target.user("u1"))
        remote = await fleet.socket(there, "c2", Target.user("u1"))
        with pytest.raises(EventTooLargeError) as error:
            await here.publish(Target.user("u1"), "x" * 4_096)
        assert (error.value.limit, error.value.is_brokers) == (4_096, True)
        assert "raise the broker's limit" in str(error.value)
        assert "max_event_bytes" not in str(error.value)
        assert await here.publish(Target.user("u1"), "x" * 3_000) == 1
        await settled(here, sockets=[local, remote])
        assert local.events == remote.events == ["x" * 3_000]
        assert here.stats().links == there.stats().links == 1
