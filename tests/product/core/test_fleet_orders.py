"""Orders to the fleet and receipts from it, over a bus in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from backplane_core import (
    ClosedByFleetError,
    ConfigurationError,
    DistributedBackplane,
    EventEncodeError,
    InMemoryBackplane,
    InvalidTargetError,
    Target,
)

from tests.product.core.test_event_sinks import Stream
from tests.product.core.test_fleet import LONG_S, ROOM, USER, know, pod_frame, pods
from tests.support.fleets import MemoryFleet
from tests.support.inside import mute, next_number, roll_calls_wait, what_it_says
from tests.support.waiting import until

OTHER = Target.user("u2")


async def test_all_connections_of_a_user_are_put_into_a_room_and_taken_out_again(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    here, there = await fleet.socket(one, "c1", USER), await fleet.socket(two, "c2", USER)
    other = await fleet.socket(two, "c3", OTHER)
    added = await one.fleet.associate(USER, ROOM, timeout_s=LONG_S)
    assert (added.by_pod, added.complete) == ({"web-0": 1, "web-1": 1}, True)
    # Those that have it already do not count.
    assert (await one.fleet.associate([USER, OTHER], ROOM, timeout_s=LONG_S)).by_pod == {"web-0": 0, "web-1": 1}
    await two.publish(ROOM, "in")
    await one.publish(ROOM, "in")
    for socket in (here, there, other):
        assert await socket.has(2) == ["in", "in"]
    removed = await two.fleet.dissociate(USER, ROOM, timeout_s=LONG_S)
    assert removed.total == 2
    await one.publish(ROOM, "out")
    assert await other.has(3) == ["in", "in", "out"]
    assert here.events == there.events == ["in", "in"]
    assert here.gaps == there.gaps == other.gaps == []


async def test_a_user_is_signed_out_everywhere(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    bare, closed = await fleet.socket(one, "c0", USER), list[Any]()
    await two.attach("c1", lambda _: None, on_close=closed.append)
    await two.associate("c1", USER)
    stream = Stream("c2")
    await two.attach_events(stream, USER)
    stays = await fleet.socket(two, "c3", OTHER)
    async with two.connection(None, USER) as connection:
        await one.publish(USER, "before")
        answers = await one.fleet.close(USER, code=4001, reason="signed out", timeout_s=LONG_S)
        assert (answers.by_pod, answers.complete) == ({"web-0": 1, "web-1": 3}, True)
        assert (await anext(connection)).value == "before"
        with pytest.raises(ClosedByFleetError, match="4001: signed out") as error:
            await anext(connection)
        assert (error.value.code, error.value.reason) == (4001, "signed out")
    assert [(one.code, one.reason) for one in closed] == [(4001, "signed out")]
    assert (stream.closed, stream.ends, stream.shown) == ((4001, "signed out"), 1, ["before"])
    assert bare.events == ["before"]
    await one.publish(USER, "after")
    await two.publish(OTHER, "goes on")
    assert await stays.has(1) == ["goes on"]
    assert (await one.fleet.count(USER, timeout_s=LONG_S)).total == 0


async def test_an_order_keeps_its_place_among_the_events_of_its_pod(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    socket = await fleet.socket(two, "c1", USER)
    for number in range(20):
        for step in range(5):
            one.publish_nowait(USER, [number, step])
        ordering = asyncio.create_task(one.fleet.close(USER, timeout_s=LONG_S))
        await asyncio.sleep(0)
        one.publish_nowait(USER, "too late")
        assert (await ordering).complete
        assert socket.events == [[number, step] for step in range(5)]
        socket.stream.clear()
        socket = await fleet.socket(two, "c1", USER)


async def test_many_connections_are_closed_in_slices(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    for number in range(2_000):
        await two.attach(f"c{number}", lambda _: None)
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while two.connection_count:
            turns += two.connection_count < 2_000
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(turn())
        closing = group.create_task(one.fleet.close(Target.everyone(), timeout_s=LONG_S))
    assert (await closing).total == 2_000
    assert turns >= 10


async def test_an_event_is_receipted_by_every_pod(fleet: MemoryFleet) -> None:
    one, two, three = await pods(fleet, 3)
    sockets = [await fleet.socket(pod, f"c{number}", USER) for number, pod in enumerate((one, two, two))]
    receipt = await one.fleet.publish(USER, "hello", timeout_s=LONG_S)
    assert (receipt.local, receipt.total, receipt.complete) == (1, 3, True)
    assert receipt.by_pod == {"web-0": 1, "web-1": 2, "web-2": 0}
    for socket in sockets:
        assert await socket.has(1) == ["hello"]
    receipt = await three.fleet.publish([USER, ROOM], "hello", exclude=["c1"])
    assert (receipt.local, receipt.total) == (0, 2)
    assert (await one.fleet.publish(OTHER, "nobody", timeout_s=LONG_S)).total == 0
    assert (await one.fleet.publish(Target.everyone(), "all", timeout_s=LONG_S)).total == 3


async def test_what_a_sink_refuses_is_not_receipted(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    await two.attach("c1", lambda _: False)
    await two.associate("c1", USER)
    assert (await one.fleet.publish(USER, 1, timeout_s=LONG_S)).by_pod == {"web-0": 0, "web-1": 0}


async def test_events_with_and_without_receipts_come_in_one_order(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    socket = await fleet.socket(two, "c1", USER)
    for number in range(0, 100, 2):
        await one.publish(USER, number)
        assert (await one.fleet.publish(USER, number + 1, timeout_s=LONG_S)).total == 1
    assert socket.events == list(range(100))
    assert one.stats().dropped == {}


async def test_a_silent_pod_is_missing_from_a_receipt(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    socket = await fleet.socket(two, "c1", USER)
    mute(two)
    receipt = await one.fleet.publish(USER, "hello", timeout_s=0.2)
    assert (receipt.total, [pod.pod for pod in receipt.missing]) == (0, ["web-1"])
    assert await socket.has(1) == ["hello"]


async def test_a_pod_without_remote_control_follows_no_order(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2, remote_control=False)
    await fleet.socket(two, "c1", USER)
    answers = await one.fleet.close(USER, timeout_s=LONG_S)
    assert (answers.total, [pod.pod for pod in answers.missing]) == (0, ["web-1"])
    assert two.connection_count == 1


async def test_an_order_of_a_pod_that_is_cut_off_is_done_here_alone_and_not_later(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    await fleet.socket(one, "c1", USER)
    await fleet.socket(two, "c2", USER)
    fleet.broker.cut()
    await one.wait_for_state("degraded")
    answers = await one.fleet.close(USER, timeout_s=LONG_S)
    assert (answers.by_pod, [pod.pod for pod in answers.missing]) == ({"web-0": 1}, ["web-1"])
    fleet.broker.restore()
    await one.wait_for_state("live")
    await two.wait_for_state("live")
    assert (await one.fleet.count(USER)).by_pod == {"web-0": 0, "web-1": 1}


async def test_a_connection_that_takes_an_id_over_is_not_closed_for_the_last_one(fleet: MemoryFleet) -> None:
    (one,) = await pods(fleet, 1)
    await fleet.socket(one, "c1", USER)
    ordering = asyncio.create_task(one.fleet.close(USER))
    await asyncio.sleep(0)
    socket = await fleet.socket(one, "c1", USER)
    await ordering
    await one.publish(USER, "here")
    assert socket.events == ["here"]


async def test_in_memory_orders_are_followed_and_events_receipted() -> None:
    async with InMemoryBackplane(pod_name="alone") as pod, pod.connection("c1", USER) as connection:
        assert (await pod.fleet.associate(USER, ROOM)).total == 1
        receipt = await pod.fleet.publish(ROOM, "hello")
        assert (receipt.local, receipt.by_pod, receipt.total, receipt.complete) == (1, {"alone": 1}, 1, True)
        assert (await pod.fleet.dissociate(USER, ROOM)).total == 1
        assert (await pod.fleet.close(USER, reason="over")).total == 1
        assert (await anext(connection)).value == "hello"
        with pytest.raises(ClosedByFleetError, match="4000: over"):
            await anext(connection)


async def test_wrong_orders_are_refused_before_anything_is_done(fleet: MemoryFleet) -> None:
    (one,) = await pods(fleet, 1)
    await fleet.socket(one, "c1", USER)
    wrong: Any
    for wrong in (999, 1001, 1006, 2999, 5000, True, "4000", 4000.0):
        with pytest.raises(ConfigurationError, match="code"):
            await one.fleet.close(USER, code=wrong)
    for wrong in ("x" * 124, "é" * 62, "\ud800", b"bye", None):
        with pytest.raises(ConfigurationError, match="reason"):
            await one.fleet.close(USER, reason=wrong)
    for wrong in (Target.everyone(), Target.connection("c1")):
        with pytest.raises(InvalidTargetError):
            await one.fleet.associate(USER, wrong)
    with pytest.raises(InvalidTargetError):
        await one.fleet.close([])
    with pytest.raises(EventEncodeError):
        await one.fleet.publish(USER, object())
    assert one.connection_count == 1
    assert next_number(one, "backplane") < 10


HOSTILE: dict[str, Any] = {
    "no targets": {"id": 1, "what": "close", "code": 4000},
    "a target that is none": {"id": 1, "what": "close", "targets": [{"user": "u1"}], "code": 4000},
    "too many targets": {"id": 1, "what": "close", "targets": ["Everyone"] * 2_049, "code": 4000},
    "a code that no frame may have": {"id": 1, "what": "close", "targets": ["Everyone"], "code": 1006},
    "a long reason": {"id": 1, "what": "close", "targets": ["Everyone"], "code": 4000, "reason": "é" * 100},
    "to associate nothing": {"id": 1, "what": "associate", "targets": ["Everyone"]},
    "to associate with everyone": {"id": 1, "what": "associate", "targets": ["Everyone"], "target": "Everyone"},
    "to associate with what is no target": {"id": 1, "what": "dissociate", "targets": ["Everyone"], "target": 1},
    "to close with a target": {"id": 1, "what": "close", "targets": ["Everyone"], "code": 4000, "target": {"A": "b"}},
}


@pytest.mark.parametrize("member", ["ask", "order"])
@pytest.mark.parametrize("order", HOSTILE.values(), ids=[*HOSTILE])
async def test_an_order_that_no_pod_gives_is_refused(fleet: MemoryFleet, order: dict[str, Any], member: str) -> None:
    one, two = await pods(fleet, 2)
    await fleet.socket(one, "c1", USER)
    saying = {"level": 1, member: order}
    fleet.broker.publish(("backplane", pod_frame("forged", 1, saying, fleet.routing)))
    await until(lambda: one.stats().decode_errors == 1, "the frame is refused")
    assert (one.connection_count, one.state, two.state) == (1, "live", "live")


def roll_call(fleet: MemoryFleet, seq: int, **members: Any) -> bytes:
    order = {"id": 5, "what": "close", "targets": [{"User": "u1"}], "code": 4000, **members}
    return pod_frame("asks", seq, {"level": 0, "ask": order}, fleet.routing)


async def test_an_order_is_followed_once_whichever_of_its_frames_comes_first(fleet: MemoryFleet) -> None:
    (one,) = await pods(fleet, 1)
    channel = "backplane" if fleet.routing == "broadcast" else "backplane:@user:u1"
    order = {"id": 5, "what": "associate", "targets": [{"User": "u1"}], "target": {"Room": "42"}}
    await fleet.socket(one, "c1", USER)
    fleet.broker.publish(("backplane", roll_call(fleet, 1, what="associate", code=0, target={"Room": "42"})))
    fleet.broker.publish((channel, pod_frame("asks", 2, {"level": 0, "order": order}, fleet.routing)))
    await until(lambda: ROOM in one.targets_of("c1"), "the order is followed")
    before = next_number(one, "backplane")
    await one.dissociate("c1", ROOM)
    fleet.broker.publish(("backplane", roll_call(fleet, 3, what="associate", code=0, target={"Room": "42"})))
    await until(lambda: next_number(one, "backplane") > before, "the roll call is answered")
    assert ROOM not in one.targets_of("c1")


async def test_a_roll_call_does_not_wait_for_ever_for_what_it_overtook(fleet: MemoryFleet) -> None:
    (one,) = await pods(fleet, 1)
    await fleet.socket(one, "c1", USER)
    before = next_number(one, "backplane")
    fleet.broker.publish(("backplane", roll_call(fleet, 1)))
    receipt = {"id": 6, "what": "receipt", "targets": [{"User": "u1"}]}
    fleet.broker.publish(("backplane", pod_frame("asks", 2, {"level": 0, "ask": receipt}, fleet.routing)))
    await until(lambda: one.connection_count == 0, "the order is followed all the same")
    await until(lambda: next_number(one, "backplane") >= before + 2, "both are answered")


async def test_an_event_that_comes_behind_its_roll_call_is_receipted(leaves_nothing: None) -> None:
    fleet = MemoryFleet("interest")
    async with fleet.stack:
        one, two = await pods(fleet, 2)
        socket = await fleet.socket(two, "c1", USER)
        said = what_it_says(two)
        asks = {"level": 0, "ask": {"id": 1, "what": "receipt", "targets": [{"User": "u1"}]}}
        fleet.broker.publish(("backplane", pod_frame("asks", 1, asks, fleet.routing)))
        await until(lambda: roll_calls_wait(two), "the roll call is read")
        assert said == []
        event = b'{"origin":"asks","target":{"User":"u1"},"event":"late","seq":2,"receipt":1}'
        fleet.broker.publish(("backplane:@user:u1", event))
        assert await socket.has(1) == ["late"]
        await until(lambda: said, "a receipt")
        assert b'"answer":{"to":"asks","id":1,"count":1}' in said[0]
        assert one.state == "live"


async def test_pods_that_join_in_this_moment_get_the_order_too(fleet: MemoryFleet) -> None:
    one: DistributedBackplane
    (one,) = await pods(fleet, 1)
    joined = await fleet.pod(pod_name="joined")
    await fleet.socket(joined, "c1", USER)
    await know(one)
    await one.fleet.close(USER)
    await until(lambda: joined.connection_count == 0, "the order arrived")
