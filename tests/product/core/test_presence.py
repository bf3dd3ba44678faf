"""`fleet.presence` and `fleet.watch` over a bus in memory: who joins, who leaves, and what nobody pays for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import pytest
from backplane_core import (
    BaseBackplane,
    ClosedError,
    ConfigurationError,
    DistributedBackplane,
    EventEncodeError,
    InMemoryBackplane,
    InvalidTargetError,
    PresenceChange,
    PresenceJoined,
    PresenceLeft,
    PresenceSnapshot,
    Publisher,
    Target,
)

from tests.support.fleets import MemoryFleet
from tests.support.inside import beat, members_of, next_number, presence_of, say, what_it_says
from tests.support.waiting import until

ROOM = Target("room", "42")
USER = Target.user("u1")
LONG_S = 30.0
"""For questions that must not wait for their time."""
EVERYONE = Target.everyone()


async def pods(fleet: MemoryFleet, count: int, **options: Any) -> list[DistributedBackplane]:
    """Pods web-0, web-1, ..., which all know each other."""
    chosen: dict[str, Any] = {"presence_linger_s": 0.0, **options}
    found = [await fleet.pod(pod_name=f"web-{number}", **chosen) for number in range(count)]
    for pod in found:
        beat(pod)
    for pod in found:
        await know(pod, count - 1)
    return found


async def know(pod: BaseBackplane, others: int) -> None:
    """Let a pod know so many others, and that there are no more."""
    members = members_of(pod)
    await until(lambda: len(members.present()) >= others, "all beats are heard")
    members.surveyed()


async def comes(changes: AsyncGenerator[PresenceChange]) -> PresenceChange:
    """The next change."""
    async with asyncio.timeout(LONG_S):
        return await anext(changes)


def snapshot(present: Mapping[str, object], *, skipped: bool = False) -> PresenceSnapshot:
    return PresenceSnapshot(present=present, missing=(), skipped=skipped)


async def test_who_is_present_is_the_same_on_every_pod(fleet: MemoryFleet) -> None:
    one, two, three = await pods(fleet, 3)
    async with (
        one.connection(None, ROOM, presence={"name": "Ann"}, presence_key="ann"),
        two.connection(None, ROOM, presence={"name": "Ann"}, presence_key="ann"),
        two.connection("c1", ROOM, USER, presence=[1, None]),
        two.connection(None, ROOM),
    ):
        for pod in (one, two, three):
            found = await pod.fleet.presence(ROOM, timeout_s=LONG_S)
            assert found.present == {"ann": {"name": "Ann"}, "c1": [1, None]}
            assert (found.total, found.complete) == (2, True)
            assert {name: sorted(keys) for name, keys in found.by_pod.items()} == {
                "web-0": ["ann"],
                "web-1": ["ann", "c1"],
                "web-2": [],
            }
        assert (await three.fleet.presence(EVERYONE, timeout_s=LONG_S)).total == 2
        assert (await three.fleet.presence(USER, timeout_s=LONG_S)).present == {"c1": [1, None]}
    assert (await three.fleet.presence(EVERYONE, timeout_s=LONG_S)).present == {}


async def test_a_watch_begins_with_a_snapshot_and_goes_on_with_each_change(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    async with (
        two.connection(None, ROOM, presence="Ann", presence_key="ann"),
        aclosing(one.fleet.watch(ROOM)) as changes,
    ):
        assert await comes(changes) == snapshot({"ann": "Ann"})
        async with two.connection("c1", presence={}):
            await two.associate("c1", ROOM)
            assert await comes(changes) == PresenceJoined("c1", {})
            await two.dissociate("c1", ROOM)
            assert await comes(changes) == PresenceLeft("c1")
        async with one.connection(None, ROOM, presence="Bob", presence_key="bob"):
            assert await comes(changes) == PresenceJoined("bob", "Bob")
        assert await comes(changes) == PresenceLeft("bob")


async def test_someone_with_several_sockets_joins_once_and_leaves_once(fleet: MemoryFleet) -> None:
    one, two, three = await pods(fleet, 3)
    async with aclosing(one.fleet.watch(ROOM)) as changes:
        assert await comes(changes) == snapshot({})
        for number, pod in enumerate((two, three, two, one)):
            await pod.attach(f"c{number}", lambda _: None, presence="Ann", presence_key="ann")
            await pod.associate(f"c{number}", ROOM)
        assert await comes(changes) == PresenceJoined("ann", "Ann")
        await two.attach("b", lambda _: None, presence="Bob", presence_key="bob")
        await two.associate("b", ROOM)
        assert await comes(changes) == PresenceJoined("bob", "Bob")
        for number, pod in enumerate((two, three, two)):
            await pod.detach(f"c{number}")
        await two.detach("b")
        assert await comes(changes) == PresenceLeft("bob")
        await one.detach("c3")
        assert await comes(changes) == PresenceLeft("ann")


async def test_what_is_shown_may_change(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    async with aclosing(one.fleet.watch(EVERYONE)) as changes:
        assert await comes(changes) == snapshot({})
        await two.attach("c1", lambda _: None, presence="here", presence_key="ann")
        assert await comes(changes) == PresenceJoined("ann", "here")
        await two.attach("c1", lambda _: None, presence="away", presence_key="ann")
        assert await comes(changes) == PresenceJoined("ann", "away")
        await two.attach("c1", lambda _: None)
        assert await comes(changes) == PresenceLeft("ann")


async def test_whoever_is_back_soon_never_left(fleet: MemoryFleet) -> None:
    one, two, three = await pods(fleet, 3, presence_linger_s=LONG_S)
    async with aclosing(one.fleet.watch(ROOM)) as changes:
        assert await comes(changes) == snapshot({})
        for pod in (two, two, three):
            async with pod.connection(None, ROOM, presence="Ann", presence_key="ann"):
                found = await one.fleet.presence(ROOM, timeout_s=LONG_S)
                assert found.present == {"ann": "Ann"}
        assert await comes(changes) == PresenceJoined("ann", "Ann")
        found = await one.fleet.presence(ROOM, timeout_s=LONG_S)
        assert found.present == {}
        await two.attach("c1", lambda _: None, presence="Bob", presence_key="bob")
        await two.associate("c1", ROOM)
        assert await comes(changes) == PresenceJoined("bob", "Bob")
        await two.dissociate("c1", ROOM)
        assert await comes(changes) == PresenceLeft("bob")  # that was meant, so nobody waits


async def test_a_key_that_stays_away_leaves_when_its_time_is_over(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2, presence_linger_s=0.3)
    async with aclosing(one.fleet.watch(ROOM)) as changes:
        assert await comes(changes) == snapshot({})
        async with two.connection(None, ROOM, presence="Ann", presence_key="ann"):
            assert await comes(changes) == PresenceJoined("ann", "Ann")
        before = asyncio.get_running_loop().time()
        assert await comes(changes) == PresenceLeft("ann")
        assert asyncio.get_running_loop().time() - before > 0.2


async def test_a_pod_that_closes_takes_its_part_with_it(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    await two.attach("c1", lambda _: None, presence="Ann")
    async with aclosing(one.fleet.watch(EVERYONE)) as changes:
        assert await comes(changes) == snapshot({"c1": "Ann"})
        await two.aclose()
        assert await comes(changes) == PresenceLeft("c1")


async def test_a_pod_that_starts_under_watch_is_seen(fleet: MemoryFleet) -> None:
    (one,) = await pods(fleet, 1)
    async with aclosing(one.fleet.watch(EVERYONE)) as changes:
        assert await comes(changes) == snapshot({})
        two = await fleet.pod(pod_name="web-1")
        await two.attach("c1", lambda _: None, presence="Ann")
        assert await comes(changes) == PresenceJoined("c1", "Ann")


async def test_ten_thousand_on_ten_pods_come_in_pages_and_a_join_is_one_frame(fleet: MemoryFleet) -> None:
    found = await pods(fleet, 10)
    for number, pod in enumerate(found):
        for socket in range(1_000):
            await pod.attach(f"c{number}-{socket}", lambda _: None, presence={"name": "x" * 300})
    said = what_it_says(found[1])
    async with aclosing(found[0].fleet.watch(EVERYONE)) as changes:
        first = await comes(changes)
        assert isinstance(first, PresenceSnapshot)
        assert (len(first.present), first.missing) == (10_000, ())
        assert 1 < len(said) < 5
        assert max(map(len, said)) < 300 * 1024
        said.clear()
        await found[1].attach("new", lambda _: None, presence="Ann")
        assert await comes(changes) == PresenceJoined("new", "Ann")
        assert len(said) == 1
        assert len(said[0]) < 200
    assert (await found[2].fleet.presence(EVERYONE, timeout_s=LONG_S)).total == 10_001


async def test_pods_that_are_not_watched_say_nothing(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    said = what_it_says(two)
    await two.attach("c1", lambda _: None, presence="Ann")
    await two.associate("c1", ROOM)
    async with aclosing(one.fleet.watch(USER)) as changes:
        assert await comes(changes) == snapshot({})
        assert len(said) == 1  # the answer
        await two.associate("c1", Target.user("u2"))
        await two.detach("c1")
        await two.attach("c2", lambda _: None, presence="Bob")
        await two.associate("c2", USER)
        assert await comes(changes) == PresenceJoined("c2", "Bob")
        assert len(said) == 2
    await until(lambda: not presence_of(two).is_busy, "the watch is over there too")
    await two.detach("c2")
    await one.fleet.count(USER, timeout_s=LONG_S)
    assert len(said) == 3


async def test_a_watcher_that_is_forgotten_costs_nothing_soon(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2, probe_interval_s=0.5, member_ttl_s=0.5)
    watch = json.dumps({"level": 1, "presence": {"watch": ["Everyone"]}}).encode()
    say(one, b',"fleet":' + watch)
    presence = presence_of(two)
    await until(lambda: presence.is_busy, "the watch is known")
    await until(lambda: not presence.is_busy, "it is over")


async def test_a_slow_reader_gets_a_snapshot_instead_of_what_it_missed(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    async with aclosing(one.fleet.watch(EVERYONE)) as changes:
        assert await comes(changes) == snapshot({})
        for number in range(2_000):
            await two.attach(f"c{number}", lambda _: None, presence=number)
        view = presence_of(one).views.watching(EVERYONE)
        assert view is not None
        await until(lambda: len(view.shown) == 2_000, "all are heard of")
        late = await comes(changes)
        assert late == snapshot({f"c{number}": number for number in range(2_000)}, skipped=True)


async def test_in_memory_a_pod_is_alone() -> None:
    async with InMemoryBackplane(presence_linger_s=0.0) as pod, aclosing(pod.fleet.watch(ROOM)) as changes:
        assert await comes(changes) == snapshot({})
        async with pod.connection(None, ROOM, presence="Ann", presence_key="ann"):
            assert await comes(changes) == PresenceJoined("ann", "Ann")
            assert (await pod.fleet.presence(ROOM)).present == {"ann": "Ann"}
        assert await comes(changes) == PresenceLeft("ann")


async def test_a_watch_ends_with_its_backplane(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    changes = [change async for change in _until_closed(one)]
    assert changes == [snapshot({})]
    async with aclosing(two.fleet.watch(ROOM)) as watch:
        await comes(watch)
        await two.aclose()
        with pytest.raises(StopAsyncIteration):
            await comes(watch)
    with pytest.raises(ClosedError):
        two.fleet.watch(ROOM)
    with pytest.raises(ClosedError):
        await two.fleet.presence(ROOM)


async def _until_closed(pod: BaseBackplane) -> AsyncGenerator[PresenceChange]:
    async for change in pod.fleet.watch(ROOM):
        yield change
        asyncio.get_running_loop().create_task(pod.aclose())


async def test_a_pod_that_takes_no_questions_shows_nobody_and_sees_the_others(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    shy = await fleet.pod(pod_name="shy", remote_control=False, presence_linger_s=0.0)
    for pod in (one, two):
        beat(pod)
    for pod in (one, two, shy):
        await know(pod, 2)
    await shy.attach("c1", lambda _: None, presence="Ann")
    await two.attach("c2", lambda _: None, presence="Bob")
    found = await one.fleet.presence(EVERYONE, timeout_s=LONG_S)
    assert found.present == {"c2": "Bob"}
    assert [(pod.pod, pod.reason) for pod in found.missing] == [("shy", "it takes no questions: remote_control=False")]
    async with aclosing(one.fleet.watch(EVERYONE)) as changes:
        first = await comes(changes)
        assert isinstance(first, PresenceSnapshot)
        assert (first.present, [pod.pod for pod in first.missing]) == ({"c2": "Bob"}, ["shy"])
    assert (await shy.fleet.presence(EVERYONE, timeout_s=LONG_S)).present == {"c1": "Ann", "c2": "Bob"}


async def test_what_is_shown_is_small_json_and_a_key_is_an_id(fleet: MemoryFleet) -> None:
    (pod,) = await pods(fleet, 1)
    with pytest.raises(ConfigurationError, match="1024"):
        pod.connection(None, ROOM, presence="x" * 1024)
    with pytest.raises(EventEncodeError):
        pod.connection(None, ROOM, presence=object())
    with pytest.raises(InvalidTargetError):
        pod.connection(None, ROOM, presence="Ann", presence_key="")
    with pytest.raises(ConfigurationError, match="presence"):
        pod.connection(None, ROOM, presence_key="ann")
    with pytest.raises(ConfigurationError, match="1024"):
        await pod.attach("c1", lambda _: None, presence="x" * 1024)
    assert pod.connection_count == 0
    with pytest.raises(InvalidTargetError, match="connection"):
        pod.fleet.watch(Target.connection("c1"))
    with pytest.raises(InvalidTargetError):
        await pod.fleet.presence("room")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigurationError, match="timeout_s"):
        await pod.fleet.presence(ROOM, timeout_s=0)


def test_a_publisher_sees_nobody() -> None:
    with pytest.raises(ConfigurationError, match="hears no answers"):
        Publisher("nats://localhost").fleet.watch(ROOM)


async def test_a_frame_costs_nothing_where_nobody_watches(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    before = next_number(two, "backplane")
    for number in range(100):
        await two.attach(f"c{number}", lambda _: None, presence=number)
        await two.associate(f"c{number}", ROOM)
        await two.detach(f"c{number}")
    assert next_number(two, "backplane") == before
    assert not presence_of(one).is_busy
