"""Targets with *and* and *not* over each broker and routing, from each way to publish."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from backplane_core import Publisher, SyncPublisher, Target

from tests.support.fleets import Fleet
from tests.support.waiting import until

USER, WEB, MUTED = Target.user("ü🙂 *.>"), Target("app", "web"), Target("room", "muted")
ROUNDS = 100


@pytest.mark.parametrize("signing_keys", [None, [b"a key of thirty-two bytes or more"]], ids=["plain", "signed"])
async def test_each_way_to_publish_reaches_who_has_both_and_leaves_out_who_is_excluded(
    fleet: Fleet, signing_keys: list[bytes] | None
) -> None:
    options: dict[str, Any] = {**fleet.options, "signing_keys": signing_keys}
    here, there = [await fleet.pod(signing_keys=signing_keys) for _ in range(2)]
    both, muted = await fleet.socket(there, "both", USER, WEB), await fleet.socket(there, "muted", WEB, MUTED, USER)
    user, web = await fleet.socket(there, "user", USER), await fleet.socket(there, "web", WEB)
    for number in range(ROUNDS):
        await here.publish(USER, [number, "user"])
        await here.publish(USER & WEB, [number, "both"])
        await here.publish(USER, [number, "not muted"], exclude=[MUTED, "web"])
    everything = [[number, kind] for number in range(ROUNDS) for kind in ("user", "both", "not muted")]
    assert await both.has(len(everything)) == everything
    assert await user.has(2 * ROUNDS) == [one for one in everything if one[1] != "both"]
    assert await muted.has(2 * ROUNDS) == [one for one in everything if one[1] != "not muted"]
    async with Publisher(fleet.url, **options) as publisher:
        await publisher.publish_json(WEB & USER, '"publisher"', exclude=[MUTED])
        await both.has(len(everything) + 1)
    sync = SyncPublisher(fleet.url, **options)
    await asyncio.to_thread(sync.publish, [USER & WEB, Target.user("nobody")], "sync", exclude=[MUTED], key="k")
    await asyncio.to_thread(sync.close)
    await both.has(len(everything) + 2)
    receipt = await here.fleet.publish(USER & WEB, "receipt", exclude=[MUTED])
    assert receipt.total == 1
    await here.publish(Target.everyone(), "end")
    for socket in (both, muted, user, web):
        await until(lambda socket=socket: socket.events[-1:] == ["end"], "the end")  # type: ignore[misc]
    assert both.events[len(everything) :] == ["publisher", "sync", "receipt", "end"]
    assert (len(muted.events), len(user.events), web.events) == (2 * ROUNDS + 1, 2 * ROUNDS + 1, ["end"])
    for pod in (here, there):
        stats = pod.stats()
        assert (stats.decode_errors, stats.signature_errors, stats.gaps, stats.dropped) == (0, 0, {}, {})
