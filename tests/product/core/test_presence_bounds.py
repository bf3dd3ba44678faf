"""What presence takes at most, and what frames that no pod sends can do to it: little, and to nobody else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from random import Random
from typing import Any

import pytest
from backplane_core import ConfigurationError, InMemoryBackplane, Presence, PresenceJoined, PresenceSnapshot, Target
from backplane_core._fleet import presence_calls
from backplane_core._presence import rosters as rosters_module
from backplane_core._presence import views as views_module
from backplane_core._presence.views import ASKED_AT_ONCE, RETRY_S, Views
from backplane_core._protocol.presence_frame import MAX_LISTED_PRESENT, Ask, Page, Present
from msgspec import Raw

from tests.product.core.test_presence import EVERYONE, LONG_S, ROOM, comes, know, pods, snapshot
from tests.support.fleets import MemoryFleet
from tests.support.inside import next_number, origin_of, presence_of, what_it_says
from tests.support.waiting import until

USER = Target.user("u1")


@pytest.fixture
async def fleet(leaves_nothing: None) -> AsyncIterator[MemoryFleet]:
    fleet = MemoryFleet()
    async with fleet.stack:
        yield fleet


def forge(fleet: MemoryFleet, origin: str, seq: int, presence: dict[str, Any]) -> None:
    """Send what any stranger on the bus may, in the name of a pod."""
    frame = {
        "origin": origin,
        "target": {"Connection": origin},
        "event": None,
        "seq": seq,
        "prev": seq - 1,
        "routing": "broadcast",
        "lanes": 1,
        "fleet": {"level": 1, "presence": presence},
    }
    fleet.broker.publish(("backplane", json.dumps(frame).encode()))


async def test_pages_and_changes_that_nobody_waits_for_are_nothing(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    shown = [{"key": "ghost", "value": 1}]
    async with aclosing(one.fleet.watch(ROOM)) as changes:
        assert await comes(changes) == snapshot({})
        sayings: list[dict[str, Any]] = [
            {"page": {"to": origin_of(one), "id": 1, "present": shown}},
            {"page": {"to": origin_of(one), "id": 2**53 - 1, "present": shown}},
            {"change": {"target": "Everyone", "at": 2, "prev": 1, "joined": shown}},
            {"change": {"target": {"Room": "43"}, "at": 2, "prev": 1, "joined": shown}},
            {"change": {"target": {"Room": "42"}, "at": 9, "prev": 8, "lost": ["nobody"]}},
        ]
        for seq, presence in enumerate(sayings, 1):
            forge(fleet, "stranger", seq, presence)
        await two.attach("c1", lambda _: None, presence="Ann")
        await two.associate("c1", ROOM)
        assert await comes(changes) == PresenceJoined("c1", "Ann")
    assert one.stats().decode_errors == 0


async def test_what_no_pod_says_is_refused_and_the_watch_goes_on(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    async with aclosing(one.fleet.watch(ROOM)) as changes:
        assert await comes(changes) == snapshot({})
        sayings: list[dict[str, Any]] = [
            {"ask": {"id": 1, "target": {"Connection": "c1"}}},
            {"change": {"target": {"Room": "42"}, "at": 2, "joined": [{"key": "", "value": 1}]}},
            {"change": {"target": {"Room": "42"}, "at": 2, "joined": [{"key": "k", "value": "x" * 1025}]}},
            {"watch": ["Everyone"] * 257},
        ]
        for seq, presence in enumerate(sayings, 1):
            forge(fleet, "stranger", seq, presence)
        await until(lambda: one.stats().decode_errors == 4, "they are counted")
        await two.attach("c1", lambda _: None, presence="Ann")
        await two.associate("c1", ROOM)
        assert await comes(changes) == PresenceJoined("c1", "Ann")
    assert not presence_of(one).rosters


async def test_made_up_pods_do_not_make_a_pod_flood_the_bus(
    fleet: MemoryFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views_module, "MAX_PARTS", 200)
    (one,) = await pods(fleet, 1)
    async with AsyncExitStack() as stack:
        for number in range(50):
            changes = await stack.enter_async_context(aclosing(one.fleet.watch(Target("room", str(number)))))
            assert await comes(changes) == snapshot({})
        before = next_number(one, "backplane")
        for number in range(500):
            forge(fleet, f"stranger-{number}", 1, {})
        await until(lambda: one.stats().received >= 500, "all are read")
        assert next_number(one, "backplane") - before < 4 * views_module.ASKS_PER_TICK
        assert sum([len(view.parts) for view in presence_of(one).views.all()]) <= 200


async def test_a_pod_of_an_older_version_is_named_at_once(fleet: MemoryFleet) -> None:
    (one,) = await pods(fleet, 1)
    old = {
        "origin": "old",
        "target": {"Connection": "old"},
        "event": None,
        "seq": 1,
        "routing": "broadcast",
        "lanes": 1,
    }
    fleet.broker.publish(("backplane", json.dumps(old).encode()))
    await know(one, 1)
    found = await one.fleet.presence(EVERYONE, timeout_s=LONG_S)
    assert [(pod.pod, pod.reason.partition(":")[0]) for pod in found.missing] == [("old", "it can't answer")]


async def test_a_pod_on_which_too_many_are_present_is_missing_and_the_others_are_not(fleet: MemoryFleet) -> None:
    one, two, three = await pods(fleet, 3)
    presence_of(one).views.room.max_bytes = 3_000
    for number in range(20):
        await two.attach(f"c{number}", lambda _: None, presence="x")
    await three.attach("c", lambda _: None, presence="Ann")
    found = await one.fleet.presence(EVERYONE, timeout_s=LONG_S)
    assert found.present == {"c": "Ann"}
    assert [(pod.pod, pod.reason) for pod in found.missing] == [
        ("web-1", "too many are present: there is no room for them")
    ]
    async with aclosing(one.fleet.watch(EVERYONE)) as changes:
        first = await comes(changes)
        assert isinstance(first, PresenceSnapshot)
        assert ([*first.present], [pod.pod for pod in first.missing]) == (["c"], ["web-1"])
    assert presence_of(one).views.room.used == 0


async def test_a_pod_on_which_too_much_is_watched_says_so(fleet: MemoryFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = await pods(fleet, 2)
    await two.attach("c1", lambda _: None, presence="Ann")
    async with aclosing(two.fleet.watch(ROOM)) as held:
        await comes(held)
        monkeypatch.setattr(rosters_module, "MAX_WATCHERS", 1)
        async with aclosing(one.fleet.watch(EVERYONE)) as changes:
            first = await comes(changes)
            assert isinstance(first, PresenceSnapshot)
            reasons = {pod.pod: pod.reason for pod in first.missing}
            assert reasons == dict.fromkeys(("web-0", "web-1"), "too many targets are watched on it")
        assert (await one.fleet.presence(EVERYONE, timeout_s=LONG_S)).present == {"c1": "Ann"}


async def test_ten_thousand_on_one_pod_come_in_small_pages_in_any_order_of_joining(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    keys = [f"k{number}" for number in range(10_000)]
    Random(1).shuffle(keys)
    for key in keys[:9_000]:
        await two.attach(key, print, presence=key)
    said = what_it_says(two)
    async with aclosing(one.fleet.watch(EVERYONE)) as changes:
        first = await comes(changes)
        assert isinstance(first, PresenceSnapshot)
        assert first.present == {key: key for key in keys[:9_000]}
        assert max([frame.count(b'"key"') for frame in said]) == MAX_LISTED_PRESENT
        # The order in which pages come is kept while connections come and go.
        for key in keys[9_000:]:
            await two.attach(key, print, presence=key)
        for key in keys[:1_000]:
            await two.detach(key)
        async with aclosing(two.fleet.watch(EVERYONE)) as own:
            assert await comes(own) == snapshot({key: key for key in keys[1_000:]})
        found = await one.fleet.presence(EVERYONE, timeout_s=LONG_S)
        assert found.present == {key: key for key in keys[1_000:]}
        said.clear()
        three = await fleet.pod(pod_name="late")
        await know(three, 2)
        async with aclosing(three.fleet.watch(EVERYONE)) as late:
            assert await comes(late) == snapshot({key: key for key in keys[1_000:]})


async def test_what_thousands_show_is_decoded_with_turns_of_the_loop_in_between() -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with InMemoryBackplane() as pod:
        for number in range(10_000):
            await pod.attach(f"c{number}", print, presence=number)
        counting = asyncio.create_task(count_turns())
        await asyncio.sleep(0)
        async with aclosing(pod.fleet.watch(EVERYONE)) as changes:
            for ask in (pod.fleet.presence(EVERYONE), anext(changes)):
                before = turns
                found = await ask
                assert isinstance(found, Presence | PresenceSnapshot)
                assert len(found.present) == 10_000
                assert turns - before >= 10_000 // presence_calls.SLICE
        counting.cancel()


async def test_only_so_many_watch_on_one_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views_module, "MAX_VIEWS", 1)
    monkeypatch.setattr(presence_calls, "MAX_READERS", 2)
    async with InMemoryBackplane() as pod, AsyncExitStack() as stack:
        for _ in range(2):
            assert await comes(await stack.enter_async_context(aclosing(pod.fleet.watch(ROOM)))) == snapshot({})
        with pytest.raises(ConfigurationError, match="watches run"):
            await comes(pod.fleet.watch(ROOM))
        with pytest.raises(ConfigurationError, match="targets are watched"):
            await pod.fleet.presence(USER)


async def test_several_readers_share_one_view_and_the_last_one_ends_it(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    said = what_it_says(one)
    async with aclosing(one.fleet.watch(ROOM)) as first, aclosing(one.fleet.watch(ROOM)) as second:
        assert await comes(first) == await comes(second) == snapshot({})
        assert len(said) == 1
        await two.attach("c1", lambda _: None, presence="Ann")
        await two.associate("c1", ROOM)
        assert await comes(first) == await comes(second) == PresenceJoined("c1", "Ann")
        await first.aclose()
        async with aclosing(one.fleet.watch(ROOM)) as third:
            assert await comes(third) == snapshot({"c1": "Ann"})
    await until(lambda: not presence_of(two).is_busy, "the last one is over there too")
    assert not presence_of(one).is_busy


async def test_leaving_the_loop_ends_the_watch() -> None:
    async with InMemoryBackplane() as pod:
        async for change in pod.fleet.watch(ROOM):
            assert change == snapshot({})
            break
        await until(lambda: not presence_of(pod).is_busy, "the generator is closed")


async def test_a_cancelled_question_leaves_nothing(fleet: MemoryFleet) -> None:
    one = await fleet.pod(pod_name="web-0")
    asking = asyncio.create_task(one.fleet.presence(ROOM, timeout_s=LONG_S))
    await until(lambda: presence_of(one).is_busy, "it is asked")
    asking.cancel()
    await asyncio.wait([asking])
    assert not presence_of(one).is_busy
    await know(one, 0)


def test_a_pod_that_had_no_room_is_asked_again_later() -> None:
    views = Views("me", linger_s=0.0)
    views.live(0.0)
    view = views.open(ROOM, {"other": True}, 0.0, settle_s=1.0, watch=True, is_settled=True)
    (ask,) = views.asks()
    views.take_page("other", Page("me", ask.id, no="busy"), 0.1)
    views.tick(1.0, {"other"})
    assert views.asks() == []
    views.tick(RETRY_S + 1.0, {"other"})
    (again,) = views.asks()
    assert (again.to, again.watch) == ("other", True)
    views.take_page("other", Page("me", again.id, at=1, present=[Present("ann", Raw(b"1"))]), RETRY_S + 2)
    assert (view.shown, [*view.missing()]) == ({"ann": b"1"}, ["me"])


def test_a_pod_that_is_gone_leaves_every_view() -> None:
    views = Views("me", linger_s=0.0)
    views.live(0.0)
    first = views.open(ROOM, {"other": True}, 0.0, settle_s=1.0, watch=True, is_settled=True)
    (ask,) = views.asks()
    views.take_page("other", Page("me", ask.id, at=1, present=[Present("ann", Raw(b"1"))]), 0.1)
    views.open(USER, {}, 0.2, settle_s=1.0, watch=True, is_settled=True)  # it was forgotten since
    assert first.shown == {"ann": b"1"}
    views.tick(0.3, ())
    assert (first.shown, [*first.parts]) == ({}, ["me"])


def test_a_pod_that_does_not_answer_is_asked_less_and_less_often() -> None:
    views = Views("me", linger_s=0.0)
    views.live(0.0)
    views.open(ROOM, {"other": True}, 0.0, settle_s=1.0, watch=True, is_settled=True)
    views.asks()
    asked: list[float] = []
    for quarter in range(1, 81):
        views.tick(quarter / 4, {"other"})
        asked += [quarter / 4 for _ in views.asks()]
    assert asked == [1.0, 3.0, 7.0, 11.0, 15.0, 19.0]


def test_views_are_read_again_some_at_a_time_once_the_link_is_back_and_each_waits_for_its_answers() -> None:
    views, count = Views("me", linger_s=0.0), 1_000
    views.live(0.0)
    found = [
        views.open(Target("room", str(number)), {"other": True}, 0.0, settle_s=1.0, watch=True, is_settled=True)
        for number in range(count)
    ]
    once = views.open(USER, {"other": True}, 0.0, settle_s=1.0, watch=False, is_settled=True)
    for ask in views.asks():
        views.take_page("other", Page("me", ask.id, at=1), 0.0)
    views.lost()
    views.live(10.0)
    views.heard("other", 10.0, answers=True)
    by_wire, now, asks = {view.target.wire: view for view in (*found, once)}, 10.0, list[Ask]()
    while len(asks) < count + 1:
        new = views.asks()
        assert 0 < len(new) <= ASKED_AT_ONCE
        for ask in new:
            # It still waits: what it shows may be outdated.
            assert by_wire[bytes(ask.target)].settles_at is not None
            views.take_page("other", Page("me", ask.id, at=1, present=[Present("k", Raw(b"1"))]), now)
        asks += new
        now += 0.25
        views.tick(now, {"other"})
    assert bytes(asks[0].target) == USER.wire, "somebody waits for this one"
    assert {bytes(ask.target) for ask in asks} == {*by_wire}
    assert all(ask.to is None for ask in asks)
    assert now < 20.0


def test_views_that_wait_to_be_read_again_when_the_link_is_lost_say_so_a_second_later() -> None:
    views = Views("me", linger_s=0.0)
    views.live(0.0)
    found = [
        views.open(Target("room", str(number)), {"other": True}, 0.0, settle_s=1.0, watch=True, is_settled=True)
        for number in range(100)
    ]
    views.live(10.0)
    views.tick(10.25, {"other"})
    views.lost()
    views.tick(11.5, {"other"})
    assert all(view.settles_at is None for view in found)
    assert set(found[-1].missing()) == {"me", "other"}
