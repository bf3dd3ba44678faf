"""The last events of a target, and older ones page by page, from memory and from the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest
from backplane_core import (
    ConfigurationError,
    DistributedBackplane,
    Event,
    History,
    InMemoryBackplane,
    InvalidTargetError,
    Publisher,
    Target,
    TransportError,
)
from backplane_core._inbound import reader
from backplane_core._log import window
from backplane_core._log.window import SLICE

from tests.product.core.test_durable import KEYS, LogFleet
from tests.support.fleets import MemoryFleet
from tests.support.inside import channel_of
from tests.support.waiting import until

USER = Target.user("u1")
OTHER = Target.user("u2")
KINDS: dict[str, dict[str, Any]] = {
    "from memory": {},
    "from the log": {"resume_max_bytes": 0},
    "from both": {"resume_max_bytes": 20_000},
    "signed": {"signing_keys": KEYS, "resume_max_bytes": 20_000},
    "one lane": {"lanes": 1, "resume_max_bytes": 20_000},
}


@pytest.fixture(params=KINDS)
async def fleet(request: pytest.FixtureRequest) -> AsyncIterator[LogFleet]:
    fleet = LogFleet(KINDS[request.param])
    async with fleet.stack:
        yield fleet


def values(history: History) -> list[Any]:
    return [event.value for event in history.events]


async def read_whole(pod: DistributedBackplane, target: Target, limit: int, before: str | None = None) -> list[Event]:
    """Return all that a log has of a target, page by page."""
    events: list[Event] = []
    for _ in range(1_000):
        page = await pod.history(target, limit, before)
        assert len(page.events) <= limit
        events[:0] = page.events
        if page.complete:
            return events
        before = page.older
    raise AssertionError("it has no end")


async def settled(*pods: DistributedBackplane) -> None:
    """Return once each pod has read what all have published."""
    for pod in pods:
        await pod.flush(timeout_s=20)
    async with asyncio.timeout(20):
        for pod in pods:
            end = Target.user("end")
            async with pods[0].connection(None, end) as connection:
                await pod.publish([USER, end], "end")
                await pod.flush(timeout_s=20)
                await anext(connection)


async def test_the_last_events_come_oldest_first_with_what_is_older_of_them(fleet: LogFleet) -> None:
    one, two = await fleet.pod(), await fleet.pod()
    for number in range(10):
        await one.publish(USER, number, key="k")
        await two.publish(OTHER, "not of it")
        await two.publish(Target.everyone(), "not of it either")
    for pod in (one, two):
        await pod.flush(timeout_s=20)
    for pod in (one, two, await fleet.pod()):
        await until_has(pod, 10)
        last = await pod.history(USER, 4)
        assert values(last) == [6, 7, 8, 9]
        assert {event.target for event in last.events} == {USER}
        assert {event.key for event in last.events} == {"k"}
        assert values(await pod.history(USER, 4, last.older)) == [2, 3, 4, 5]
        assert values(await pod.history(USER, 4, last.events[0].id)) == [2, 3, 4, 5]
        assert values(await pod.history(USER, 4, last.events[2].id)) == [4, 5, 6, 7]
        whole = await pod.history(USER)
        assert (values(whole), whole.complete, whole.older) == ([*range(10)], True, None)


async def until_has(pod: DistributedBackplane, count: int) -> None:
    """Return once a pod's history of the user has so many events."""
    for _ in range(2_000):
        if len((await pod.history(USER, 1_000)).events) >= count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never had")


@pytest.mark.parametrize("seed", range(4))
async def test_pages_have_each_event_once_and_each_sender_in_order(fleet: LogFleet, seed: int) -> None:
    random = Random(seed)
    pods = [await fleet.pod() for _ in range(3)]
    published: list[tuple[int, str, int]] = []
    for number in range(300):
        sender = random.randrange(3)
        kind = random.choice(["alone", "union", "other"])
        target: Target | list[Target] = OTHER if kind == "other" else [OTHER, USER] if kind == "union" else USER
        await pods[sender].publish(target, [sender, kind, number])
        if kind != "other":
            published.append((sender, kind, number))
    await settled(*pods)
    for pod in (*pods, await fleet.pod()):
        events = await read_whole(pod, USER, random.randint(1, 40))
        found = [tuple(event.value) for event in events if event.value != "end"]
        assert sorted(found) == sorted(published)
        for sender in range(3):
            for kind in ("alone", "union"):
                own = [number for where, what, number in found if (where, what) == (sender, kind)]
                assert own == sorted(own)
        at = random.randrange(len(events))
        for another in pods:
            older = await read_whole(another, USER, 50, events[at].id)
            assert sorted(map(str, [event.value for event in older])) == sorted(
                map(str, [event.value for event in events[:at]])
            )


async def test_what_stands_before_a_live_event_is_what_came_before_it_on_any_pod(
    fleet: LogFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the pod publishes between a frame of another pod and the next one, as delivery gives the loop a turn."""
    monkeypatch.setattr(reader, "SLICE_S", 0.0)
    pods = [await fleet.pod() for _ in range(3)]
    came: list[Event] = []
    async with pods[0].connection(None, USER) as connection, asyncio.timeout(20):
        for number in range(60):
            await pods[number % 3].publish(USER if number % 5 else [USER, OTHER], number)
            if not number % 7:
                await asyncio.sleep(0)
        while len(came) < 60:
            came.append(await anext(connection))
    await settled(*pods)
    for pod in (*pods, await fleet.pod()):
        for at in (0, 1, 17, 30, 45, 59):
            older = await read_whole(pod, USER, 25, came[at].id)
            assert sorted([event.value for event in older]) == sorted([event.value for event in came[:at]])


async def test_a_connection_goes_on_where_a_history_ends(fleet: LogFleet) -> None:
    one, two = await fleet.pod(), await fleet.pod()
    for number in range(20):
        await one.publish(USER, number)
    await one.flush(timeout_s=20)
    await until_has(two, 20)
    for pod in (one, two):
        history = await pod.history(USER, 5)
        await one.publish(USER, "since")
        middle = values(history).index(17)
        for resume_from, missed in ((history.id, []), (history.events[middle].id, values(history)[middle + 1 :])):
            got: list[Any] = []
            async with pod.connection(None, USER, resume_from=resume_from) as connection, asyncio.timeout(20):
                while len(got) <= len(missed):
                    got.append((await anext(connection)).value)
            assert got == [*missed, "since"]
        await one.flush(timeout_s=20)
        await until_has(two, 21)


async def test_events_that_this_pod_has_not_read_in_the_log_yet_are_in_it(fleet: LogFleet) -> None:
    one, two = await fleet.pod(), await fleet.pod()
    for channel in fleet.broker.channels:
        fleet.broker.hold(channel)
    for number in range(4):
        await one.publish(USER, number)
    if fleet.options.get("resume_max_bytes") == 0:
        await one.flush(timeout_s=20)  # memory has none of them
    history = await one.history(USER)
    assert values(history) == [0, 1, 2, 3]
    assert values(await one.history(USER, before=history.events[2].id)) == [0, 1]
    await one.flush(timeout_s=20)
    assert values(await two.history(USER, before=history.events[2].id)) == [0, 1]
    fleet.broker.release()


async def test_whom_events_exclude_does_not_get_them(fleet: LogFleet) -> None:
    pod = await fleet.pod()
    await pod.publish(USER, 1, exclude=["c1"])
    await pod.publish(USER, 2, exclude=["c2"])
    await pod.flush(timeout_s=20)
    await until_has(pod, 2)
    assert values(await pod.history(USER, conn_id="c1")) == [2]
    assert values(await pod.history(USER)) == [1, 2]


async def test_what_is_trimmed_is_not_there_and_nothing_older_is_said_to_be(fleet: LogFleet) -> None:
    one = await fleet.pod(resume_max_bytes=0)
    for number in range(10):
        await one.publish(USER, number)
    await one.flush(timeout_s=20)
    await until_has(one, 10)
    first, *_ = (await one.history(USER)).events
    fleet.broker.trim(4, channel_of(one, USER))
    history = await one.history(USER)
    assert history.complete
    assert 0 < len(history.events) <= 4
    assert values(history)[-1] == 9
    gone = await one.history(USER, before=first.id)
    assert (gone.events, gone.complete) == ((), True)


@pytest.mark.parametrize("text", ["", "none", "1.00000000.a.b", "1" * 100_000, "é", "1.", "!1:2:3"])
async def test_a_place_that_says_nothing_has_nothing_before_it(fleet: LogFleet, text: str) -> None:
    pod = await fleet.pod()
    await pod.publish(OTHER, "not of it")
    await pod.publish(USER, "of it")
    history = await pod.history(USER, before=text)
    assert (history.events, history.complete) == ((), True)


async def test_a_log_that_is_read_in_part_says_where_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "MAX_ENTRIES", 100)
    fleet = LogFleet({"resume_max_bytes": 0, "lanes": 1})
    async with fleet.stack:
        pod = await fleet.pod()
        await pod.publish(USER, "long ago")
        for number in range(1_000):
            await pod.publish(OTHER, number)
        await pod.flush(timeout_s=20)
        channel = channel_of(pod, USER)
        await until(lambda: len(fleet.broker.payloads(channel)) > 1_000, "the log has it")
        await until_read(pod)
        history = await pod.history(USER)
        assert (history.events, history.complete) == ((), False)
        assert [event.value for event in await read_whole(pod, USER, 10)] == ["long ago"]


async def until_read(pod: DistributedBackplane) -> None:
    """Return once a pod has read the last event."""
    for _ in range(2_000):
        if values(await pod.history(OTHER, 1)) == [999]:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never has")


async def test_a_log_that_cannot_be_read_is_an_error_once_memory_does_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "WAIT_S", 0.2)
    fleet = LogFleet({})
    async with fleet.stack:
        pod = await fleet.pod()
        for number in range(3):
            await pod.publish(USER, number)
        fleet.broker.cut()
        await until(lambda: pod.state == "degraded", "the link is lost")
        assert values(await pod.history(USER, 2)) == [1, 2]
        with pytest.raises(TransportError, match="could not be read"):
            await pod.history(USER, 100)
        fleet.broker.restore()


async def test_a_long_history_gives_the_loop_its_turns() -> None:
    fleet = LogFleet({})
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with fleet.stack:
        pod = await fleet.pod()
        for number in range(4_000):
            await pod.publish(USER, number)
        counting = asyncio.create_task(count_turns())
        await asyncio.sleep(0)
        before = turns
        history = await pod.history(USER, 4_000)
        during = turns - before
        counting.cancel()
        assert len(history.events) == 4_000
        assert during >= 4_000 // SLICE


async def test_a_reader_has_what_is_for_its_targets_and_nothing_that_excludes_one(fleet: LogFleet) -> None:
    web, phone, muted = Target("app", "web"), Target("app", "phone"), Target("room", "muted")
    one, two = await fleet.pod(), await fleet.pod()
    sent: list[tuple[Any, dict[str, Any]]] = [
        (USER, {}),
        (USER & web, {}),
        (web & USER, {}),
        (USER & web & phone, {}),
        ([USER & phone, OTHER], {}),
        ([OTHER & web, USER & web], {}),
        (USER, {"exclude": [muted]}),
        ([USER, OTHER], {"exclude": [muted & web, "c2"]}),
        (USER, {"exclude": [Target.connection("c1")]}),
        ([USER, OTHER], {"exclude": [USER]}),
        (USER, {}),
    ]
    for number, (targets, options) in enumerate(sent):
        await one.publish(targets, number, **options)
    await one.flush(timeout_s=20)
    wanted: list[tuple[dict[str, Any], set[int]]] = [
        ({}, {0, 6, 7, 8, 10}),
        ({"having": [web]}, {0, 1, 5, 6, 7, 8, 10}),
        ({"having": [web, phone]}, {0, 1, 3, 4, 5, 6, 7, 8, 10}),
        ({"having": [muted]}, {0, 7, 8, 10}),
        ({"having": {muted, web}}, {0, 1, 5, 8, 10}),
        ({"conn_id": "c1"}, {0, 6, 7, 10}),
        ({"conn_id": "c2", "having": [web]}, {0, 1, 5, 6, 8, 10}),
    ]
    for pod in (one, two, await fleet.pod()):
        await until_has(pod, 5)
        for options, expected in wanted:
            history = await pod.history(USER, **options)
            assert set(values(history)) == expected, options
            assert {event.target for event in history.events} == {USER}
            paged: list[Any] = []
            page = await pod.history(USER, 2, **options)
            while True:
                paged += values(page)
                if page.complete:
                    break
                page = await pod.history(USER, 2, page.older, **options)
            assert sorted(paged) == sorted(expected), options


async def test_a_bus_without_a_log_names_those_that_have_one() -> None:
    fleet = MemoryFleet()
    async with fleet.stack:
        for pod in (await fleet.pod(), InMemoryBackplane()):
            with pytest.raises(ConfigurationError, match=r"redis\+streams://.*nats\+jetstream://"):
                await pod.history(USER)
    with pytest.raises(ConfigurationError, match="only publishes"):
        await Publisher("redis+streams://localhost").history(USER)


async def test_arguments_that_are_not_allowed(fleet: LogFleet) -> None:
    pod = await fleet.pod()
    wrong: Any = "u1"
    with pytest.raises(InvalidTargetError):
        await pod.history(wrong)
    with pytest.raises(InvalidTargetError):
        await pod.history(USER, conn_id="")
    with pytest.raises(InvalidTargetError):
        await pod.history(USER, having=[USER, wrong])
    for limit in (0, -1, 10_001, True, 1.5):
        number: Any = limit
        with pytest.raises(ConfigurationError, match="limit"):
            await pod.history(USER, number)
