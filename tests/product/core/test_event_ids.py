"""Ids of events: how long they are known, how many, over a log, and to clients that come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from backplane_core import (
    ConfigurationError,
    DistributedBackplane,
    Event,
    EventTooLargeError,
    InMemoryBackplane,
    InvalidTargetError,
    Target,
)
from backplane_core._protocol.event_ids import EventIds, Publication, event_key

from tests.product.core.test_durable import LogFleet
from tests.support.fleets import MemoryFleet
from tests.support.inside import channel_of
from tests.support.sockets import attach
from tests.support.waiting import until

USER = Target.user("u1")
FIRST, SECOND = Publication("a", 1), Publication("b", 1)


def test_an_id_is_known_for_its_window_from_when_it_came_first() -> None:
    ids = EventIds(window_s=120.0, max_ids=10)
    assert not ids.is_repeated(b"k", FIRST, 10.0)
    assert ids.is_repeated(b"k", SECOND, 129.9)
    assert not ids.is_repeated(b"k", SECOND, 130.0), "the repeat did not prolong it"
    assert ids.is_other(b"k", FIRST, 131.0)
    assert not ids.is_other(b"k", SECOND, 131.0)
    assert not ids.is_other(b"k", FIRST, 250.0)
    assert len(ids) == 0


def test_as_many_ids_as_are_allowed_are_known_and_the_oldest_goes_first() -> None:
    ids = EventIds(window_s=120.0, max_ids=1_000)
    for number in range(1_500):
        assert not ids.is_repeated(b"%d" % number, FIRST, 10.0)
    assert (len(ids), ids.evicted) == (1_000, 500)
    assert ids.is_repeated(b"500", SECOND, 10.0)
    assert not ids.is_repeated(b"499", SECOND, 10.0)


def test_an_id_belongs_to_its_targets_in_any_order_and_is_kept_as_a_hash() -> None:
    other = Target.user("u2")
    assert event_key([USER, other], "x") == event_key([other, USER, USER], "x")
    assert len({event_key(targets, id_) for targets in ([USER], [USER, other], [USER & other]) for id_ in "xy"}) == 6
    assert len(event_key([USER], "x" * 1_024)) == 16


async def test_in_memory_an_event_of_an_id_is_handed_out_once() -> None:
    async with InMemoryBackplane(event_ids_max=2) as backplane:
        socket = await attach(backplane, "c1", USER)
        assert await backplane.publish(USER, 1, event_id="a") == 1
        assert backplane.publish_nowait(USER, 1, event_id="a") == 0
        assert await backplane.publish_json(USER, b"1", event_id="a") == 0
        assert backplane.publish_json_nowait(USER, b"1", event_id="a") == 0
        assert await asyncio.wrap_future(backplane.publish_threadsafe(USER, 1, event_id="a")) == 0
        assert backplane.stats().repeats == 4
        for id_ in "bc":
            await backplane.publish(USER, id_, event_id=id_)
        assert backplane.stats().event_ids_evicted == 1
        assert await backplane.publish(USER, 1, event_id="a") == 1
        assert socket.events == [1, "b", "c", 1]


async def test_an_event_that_was_refused_may_be_published_again_under_its_id() -> None:
    fleet = MemoryFleet()
    async with fleet.stack:
        pod = await fleet.pod(outbox_overflow="raise", outbox_max_messages=1_000, max_event_bytes=100)
        socket = await fleet.socket(pod, "c1", USER)
        with pytest.raises(EventTooLargeError):
            await pod.publish(USER, "x" * 200, event_id="a")
        assert await pod.publish(USER, "small", event_id="a") == 1
        assert socket.events == ["small"]


@pytest.mark.parametrize("event_id", ["", "x" * 1_025, "ü" * 513, 7, b"a"])
async def test_an_id_that_is_none_is_an_error_and_nobody_gets_the_event(event_id: Any) -> None:
    async with InMemoryBackplane() as backplane:
        socket = await attach(backplane, "c1", USER)
        with pytest.raises(InvalidTargetError, match="event_id"):
            await backplane.publish(USER, 1, event_id=event_id)
        assert not socket.events


@pytest.mark.parametrize("options", [{"event_id_window_s": 0}, {"event_id_window_s": 86_401}, {"event_ids_max": 0}])
def test_a_bound_that_is_none_is_an_error(options: Any) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        InMemoryBackplane(**options)


@pytest.fixture(params=[{}, {"resume_max_bytes": 0}, {"lanes": 1}], ids=["from memory", "from the log", "one lane"])
async def logs(request: pytest.FixtureRequest) -> AsyncIterator[LogFleet]:
    fleet = LogFleet(request.param)
    async with fleet.stack:
        yield fleet


async def test_over_a_log_neither_history_nor_a_client_that_comes_back_has_it_twice(logs: LogFleet) -> None:
    first, second, third = [await logs.pod() for _ in range(3)]
    socket = await attach(third, "c0", USER)
    async with third.connection("c1", USER) as connection:
        await first.publish(USER, "before")
        items = connection.items()
        item = await anext(items)
        assert isinstance(item, Event)
        id_ = item.id
    await first.publish(USER, "done", event_id="job-7")
    await socket.has(2)
    await second.publish(USER, "done", event_id="job-7")
    await third.publish(USER, "done", event_id="job-7")
    await second.publish(USER, "after")
    await socket.has(3)
    for pod in (first, second, third):
        await pod.flush(timeout_s=30)
        await until(lambda pod=pod: pod.stats().repeats == 2, "each pod has seen both again")  # type: ignore[misc]
        history = await pod.history(USER)
        assert [event.value for event in history.events] == ["before", "done", "after"]
        async with pod.connection("back", USER, resume_from=id_) as back:
            got = [await anext(back.items()) for _ in range(2)]
            assert [event.value for event in got if isinstance(event, Event)] == ["done", "after"]
            assert back.pending == 0
    assert socket.events == ["before", "done", "after"]


async def test_a_pod_that_starts_later_knows_from_the_log_what_was_handed_out(logs: LogFleet) -> None:
    first = await logs.pod()
    socket = await attach(first, "c0", USER)
    await first.publish(USER, "done", event_id="job-7")
    await first.publish(USER, "done", event_id="job-7")
    await first.flush(timeout_s=30)
    late = await logs.pod()
    if not late.stats().replayable_events:
        pytest.skip("it reads nothing of the log at its start")
    history = await late.history(USER)
    assert [event.value for event in history.events] == ["done"]
    new = await attach(late, "c1", USER)
    await first.publish(USER, "done", event_id="job-7")
    await first.publish(USER, "after")
    await new.has(1)
    await socket.has(2)
    assert new.events == ["after"]


@pytest.mark.parametrize("logs", [{}, {"lanes": 1}], ids=["lanes", "one lane"], indirect=True)
@pytest.mark.parametrize("first", [0, 1], ids=["the first one's log entry first", "the second one's first"])
async def test_a_client_that_changes_pods_gets_an_event_once_that_two_pods_published_before_either_heard_the_other(
    logs: LogFleet, first: int
) -> None:
    pods = [await logs.pod() for _ in range(3)]
    begun = [str(pod.last_event_id) for pod in pods]
    channel = channel_of(pods[0], USER)
    logs.broker.hold(channel)
    ids: list[str] = []
    for pod in (pods[first], pods[1 - first]):
        async with pod.connection(None, USER) as connection:
            assert await pod.publish(USER, "job", event_id="j7") == 1
            event = await anext(connection)
            assert event.value == "job"
            ids.append(str(event.id))
        await pod.flush(timeout_s=10)
    logs.broker.release()
    for pod in pods:
        # A pod that published one counts the other's; the third one counts the later one.
        await until(lambda pod=pod: pod.stats().repeats == 1, "it has heard of both")  # type: ignore[misc]
    for pod in pods:
        for id_ in ids:
            assert await missed(pod, id_) == []
        for id_ in begun:
            assert await missed(pod, id_) == ["job"]


async def missed(pod: DistributedBackplane, id_: str) -> list[Any]:
    """Return what a client gets that comes back."""
    async with pod.connection(None, USER, resume_from=id_) as connection:
        await pod.publish(USER, "end")
        found: list[Any] = []
        async with asyncio.timeout(10):
            async for item in connection.items():
                found.append(item.value if isinstance(item, Event) else item)
                if found[-1] == "end":
                    break
    return [item for item in found if item != "end"]
