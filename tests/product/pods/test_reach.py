"""One publish reaches every connection of its target, on every pod: both brokers, both routings."""

from __future__ import annotations

import asyncio

import pytest
from backplane_core import Target

from tests.support.fleets import Fleet
from tests.support.sockets import settled
from tests.support.waiting import until

TARGETS = [
    Target.connection("c1"),
    Target.session("s1"),
    Target.user("u1"),
    Target.org("acme"),
    Target.agent("a1"),
    Target("chat_room", "42"),
    Target.everyone(),
    Target.user("ü🙂 *.> {tag}:\r\n\0"),
]


@pytest.mark.every_loop
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.kind)
async def test_a_publish_on_one_pod_reaches_the_connection_on_another_and_counts_no_local_one(
    fleet: Fleet, target: Target
) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    socket = await fleet.socket(there, "c1", target)
    assert await here.publish(target, {"kind": "job_status", "n": 1}) == 0
    assert await socket.has(1) == [{"kind": "job_status", "n": 1}]
    await settled(here, there, sockets=[socket])
    assert socket.events == [{"kind": "job_status", "n": 1}]


async def test_a_publish_on_the_owning_pod_is_delivered_once_and_its_echo_is_skipped(fleet: Fleet) -> None:
    pod, other = await fleet.pod(), await fleet.pod()
    socket = await fleet.socket(pod, "c1", Target.user("u1"))
    assert await pod.publish(Target.user("u1"), "hello") == 1
    assert socket.events == ["hello"]
    await settled(pod, other, sockets=[socket])
    assert socket.events == ["hello"]
    await until(lambda: pod.stats().echoed >= 1, "its own frames come back, and are skipped")


@pytest.mark.every_loop
async def test_five_thousand_events_in_a_row_arrive_once_each_and_in_order(fleet: Fleet) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    socket = await fleet.socket(there, "c1", Target.user("u1"))
    for number in range(5_000):
        await here.publish(Target.user("u1"), number)
    await socket.has(5_000)
    await settled(here, sockets=[socket])
    assert socket.events == list(range(5_000))


@pytest.mark.thorough
async def test_a_tight_loop_of_sixty_thousand_publishes_loses_nothing_on_a_live_link(fleet: Fleet) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    socket = await fleet.socket(there, "c1", Target.user("u1"))
    for number in range(60_000):
        await here.publish(Target.user("u1"), number)
    await here.flush(timeout_s=30)
    assert await socket.has(60_000) == list(range(60_000))
    assert here.stats().dropped == {}
    assert socket.gaps == []


async def test_two_connections_of_a_user_on_two_pods_and_a_third_in_both_targets_get_a_union_once_each(
    fleet: Fleet,
) -> None:
    one, two = await fleet.pod(), await fleet.pod()
    first = await fleet.socket(one, "c1", Target.user("u1"))
    second = await fleet.socket(two, "c2", Target.user("u1"))
    both = await fleet.socket(two, "c3", Target.user("u1"), Target.org("acme"))
    stranger = await fleet.socket(two, "c4", Target.user("u2"))
    assert await one.publish([Target.user("u1"), Target.org("acme"), Target.user("u1")], "news") == 1
    await settled(one, two, sockets=[first, second, both, stranger])
    assert [socket.events for socket in (first, second, both, stranger)] == [["news"], ["news"], ["news"], []]


@pytest.mark.parametrize("target", [Target.user("u1"), Target.everyone(), None], ids=["one", "everyone", "union"])
async def test_an_excluded_connection_is_skipped_on_every_pod(fleet: Fleet, target: Target | None) -> None:
    one, two = await fleet.pod(), await fleet.pod()
    sender = await fleet.socket(one, "c1", Target.user("u1"))
    here = await fleet.socket(one, "c2", Target.user("u1"))
    left_out = await fleet.socket(two, "c3", Target.user("u1"))
    there = await fleet.socket(two, "c4", Target.user("u1"), Target.org("acme"))
    targets = [Target.user("u1"), Target.org("acme")] if target is None else target
    assert await one.publish(targets, "news", exclude=["c1", "c3"]) == 1
    await settled(one, two, sockets=[sender, here, left_out, there])
    assert [socket.events for socket in (sender, here, left_out, there)] == [[], ["news"], [], ["news"]]


async def test_two_backplanes_on_different_channels_of_one_broker_never_mix(fleet: Fleet, channel: str) -> None:
    mine, other = await fleet.pod(), await fleet.pod(channel=f"{channel}:more")
    here = await fleet.socket(mine, "c1", Target.user("u1"))
    there = await fleet.socket(other, "c1", Target.user("u1"))
    await mine.publish(Target.user("u1"), "mine")
    await other.publish(Target.user("u1"), "other")
    await mine.publish(Target.everyone(), "all of mine")
    await settled(mine, sockets=[here])
    await settled(other, sockets=[there])
    assert here.events == ["mine", "all of mine"]
    assert there.events == ["other"]


async def test_a_hundred_publishers_at_once_keep_the_order_of_each(fleet: Fleet) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    socket = await fleet.socket(there, "c1", Target.user("u1"))

    async def publish(publisher: int) -> None:
        for number in range(50):
            await here.publish(Target.user("u1"), [publisher, number])

    async with asyncio.TaskGroup() as group:
        for publisher in range(100):
            group.create_task(publish(publisher))
    events = await socket.has(5_000)
    for publisher in range(100):
        assert [number for who, number in events if who == publisher] == list(range(50))


@pytest.mark.every_loop
async def test_events_of_the_connection_context_manager_arrive_from_another_pod(fleet: Fleet) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    async with there.connection("conn-1", Target.user("u1"), Target.org("acme")) as connection:
        await here.publish(Target.user("u1"), {"kind": "job_status", "state": "done"})
        await here.publish(Target.org("acme"), 2)
        async with asyncio.timeout(10):
            first, second = [await anext(connection) for _ in range(2)]
    assert {first.text, second.text} == {'{"kind":"job_status","state":"done"}', "2"}


async def test_a_reader_that_gives_up_again_and_again_loses_no_event(fleet: Fleet) -> None:
    # As a heartbeat is written: wait for an event, and say something if none comes in time.
    here, there = await fleet.pod(), await fleet.pod()
    given_up = 0
    async with there.connection(None, Target.user("u1")) as connection:

        async def publish() -> None:
            for number in range(600):
                await here.publish(Target.user("u1"), number)
                await asyncio.sleep(0.001 * (number % 3))

        publishing = asyncio.create_task(publish())
        got: list[int] = []
        async with asyncio.timeout(60):
            while len(got) < 600:
                try:
                    got.append((await asyncio.wait_for(anext(connection), 0.0003 * (1 + len(got) % 5))).value)
                except TimeoutError:
                    given_up += 1
        await publishing
    assert got == list(range(600))
    assert given_up > 0
