"""A client that comes back with the id of its last event, on any pod, gets what it missed, once and in order."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from backplane_core import CaughtUp, Connection, DistributedBackplane, Event, Gap, InMemoryBackplane, Target
from backplane_core._inbound.reader import SLICE_S, SLICE_SINKS
from backplane_core.testing import MemoryLog
from backplane_core.testing.memory_log import MemoryLogLink

from tests.product.core.test_durable import KEYS, LogFleet, all_live
from tests.support.fleets import MemoryFleet
from tests.support.inside import awaited_places, channel_of, mirror_of
from tests.support.waiting import until

USER = Target.user("u1")
OTHER = Target.user("u2")
NAMES = {False: "plain", True: "signed"}


@pytest.fixture(params=NAMES, ids=NAMES.get)
async def fleet(request: pytest.FixtureRequest) -> AsyncIterator[LogFleet]:
    fleet = LogFleet({"signing_keys": KEYS} if request.param else {})
    async with fleet.stack:
        yield fleet


async def read(connection: Connection, until_item: object) -> list[Any]:
    """Return what a connection yields up to some value, or the mark of the end; marks as words."""
    found: list[Any] = []
    async with asyncio.timeout(10):
        async for item in connection.items(marks=True):
            found.append("live" if isinstance(item, CaughtUp) else item if isinstance(item, Gap) else item.value)
            if found[-1] == until_item:
                break
    return found


async def taken(connection: Connection, lasts: int) -> list[tuple[Any, Target | None, str | None]]:
    """Return what a connection yields up to the last event of each lane: values, with targets and keys, sorted."""
    found: list[tuple[Any, Target | None, str | None]] = []
    async with asyncio.timeout(10):
        async for item in connection.items():
            assert isinstance(item, Event), "a gap"
            found.append((item.value, item.target, item.key))
            lasts -= item.value == "last"
            if not lasts:
                break
    return sorted(found, key=str)


async def last_id(pod: DistributedBackplane, *targets: Target, conn_id: str | None = None) -> str:
    """Return the id of the event that a new connection gets next."""
    async with pod.connection(conn_id, *targets) as connection:
        async with asyncio.timeout(10):
            event = await anext(connection)
        assert event.id is not None
        return event.id


async def seen_by(pod: DistributedBackplane, there: DistributedBackplane, target: Target = USER) -> str:
    """Publish one event on the second pod, and return its id on the first one."""
    reading = asyncio.ensure_future(last_id(pod, target))
    await until(lambda: bool(pod.connections_of(target)), "it is attached")
    await asyncio.sleep(0)
    await there.publish(target, "seen")
    return await reading


async def test_a_client_gets_on_another_pod_what_it_missed_and_then_what_comes(fleet: LogFleet) -> None:
    one, two, three = [await fleet.pod() for _ in range(3)]
    id_ = await seen_by(one, three)
    for number in range(5):
        await three.publish(USER, number)
        await two.publish(OTHER, "not for it")
        await two.publish(USER, 10 + number)
    async with two.connection(None, USER, resume_from=id_) as connection:
        await three.publish(USER, "now")
        await until(lambda: connection.pending > 0, "it came live")
        stream = await read(connection, "now")
    assert "seen" not in stream
    assert [item for item in stream if isinstance(item, int) and item < 10] == [*range(5)]
    assert [item for item in stream if isinstance(item, int) and item >= 10] == [*range(10, 15)]
    assert stream.count("live") == 1
    assert two.stats().replayed == len(stream[: stream.index("live")])
    assert two.stats().replayable_bytes > 0


async def test_what_is_handed_out_again_has_the_key_that_it_was_published_with(fleet: LogFleet) -> None:
    one, two = await fleet.pod(), await fleet.pod()
    id_ = await seen_by(one, two)
    await two.publish(USER, 1, key="A")
    await one.publish([USER, OTHER], 2, key="B")
    await one.publish(USER, 3)
    found: list[tuple[Any, str | None]] = []
    async with one.connection(None, USER, resume_from=id_) as connection, asyncio.timeout(10):
        async for event in connection:
            found.append((event.value, event.key))
            if len(found) == 3:
                break
    assert sorted(found, key=str) == [(1, "A"), (2, "B"), (3, None)]


async def test_without_marks_only_events_and_gaps_come(fleet: LogFleet) -> None:
    one, two = await fleet.pod(), await fleet.pod()
    id_ = await seen_by(one, two)
    await two.publish(USER, 1)
    async with two.connection(None, USER, resume_from=id_) as connection:
        await two.publish(USER, 2)
        items = connection.items()
        async with asyncio.timeout(10):
            assert [item.value for item in [await anext(items), await anext(items)] if isinstance(item, Event)] == [
                1,
                2,
            ]
    async with two.connection(None, USER, resume_from=id_) as connection, asyncio.timeout(10):
        assert [(await anext(connection)).value, (await anext(connection)).value] == [1, 2]


async def test_only_those_get_it_who_would_have_got_it_live(fleet: LogFleet) -> None:
    one, two = await fleet.pod(), await fleet.pod()
    id_ = await seen_by(one, two)
    await two.publish(USER, "excluded", exclude=["c1"])
    await two.publish([OTHER, USER], "union")
    await two.publish(Target.everyone(), "everyone")
    await two.publish(Target.connection("c1"), "to it alone")
    await two.publish(Target.connection("c2"), "to another one")
    await two.publish(USER, "last")
    await two.flush(timeout_s=10)
    for pod in (one, two, await fleet.pod()):
        async with pod.connection("c1", USER, resume_from=id_) as connection:
            stream = await read(connection, "live")
        assert sorted(stream) == ["everyone", "last", "live", "to it alone", "union"]


@pytest.mark.parametrize("place", ["memory", "the log", "no log yet"])
async def test_a_client_gets_of_intersections_and_excluded_targets_what_it_would_have_got(
    fleet: LogFleet, place: str
) -> None:
    one, two = await fleet.pod(), await fleet.pod(resume_max_bytes=0 if place == "the log" else 2**20)
    web, phone, trial = Target("app", "web"), Target("app", "phone"), Target("plan", "trial")
    id_ = await seen_by(one, two)
    pod = one if place == "no log yet" else two
    async with pod.connection(None, USER, web) as stayed:
        if place == "no log yet":
            fleet.broker.hold(channel_of(one, USER))
        sent: list[tuple[Any, dict[str, Any]]] = [
            (USER & web, {}),
            (web & USER, {}),
            (USER & phone, {}),
            (USER & web & trial, {}),
            ([USER & phone, web & Target.everyone()], {}),
            ([OTHER, USER & trial, USER & phone], {}),
            ([USER & trial, USER & web, USER], {"key": "k"}),
            (USER, {"exclude": [web]}),
            (USER, {"exclude": [phone, web & phone, web & trial]}),
            (USER, {"exclude": [phone, web & USER]}),
            ([USER, OTHER], {"exclude": ["c", trial]}),
            (USER & web, {"exclude": ["c9", trial]}),
            (Target.everyone(), {"exclude": [USER]}),
            (Target.everyone(), {"exclude": [OTHER]}),
        ]
        for number, (targets, options) in enumerate(sent):
            await one.publish(targets, number, **options)
        for lane in (Target.everyone(), USER, web):
            await one.publish(lane, "last")
        live = await taken(stayed, 3)
        assert {item[0] for item in live} == {0, 1, 4, 6, 8, 10, 11, 13, "last"}
    for back in [one] if place == "no log yet" else [one, two, await fleet.pod()]:
        async with back.connection(None, USER, web, resume_from=id_) as connection:
            assert await taken(connection, 3) == live
        async with back.connection("c", USER, web, resume_from=id_) as connection:
            assert await taken(connection, 3) == [item for item in live if item[0] != 10]
        async with back.connection(None, web, resume_from=id_) as connection:
            assert {item[0] for item in await taken(connection, 2)} == {4, 12, 13, "last"}


@pytest.mark.parametrize(
    "text",
    ["", "none", "1.00000000.a.b", "1" * 100_000, "é", "1.", "~1:2:3"],
    ids=["empty", "a word", "foreign", "huge", "not ascii", "cut off", "only ahead"],
)
async def test_an_id_that_says_nothing_is_a_gap_and_never_the_events_of_others(fleet: LogFleet, text: str) -> None:
    one, two = await fleet.pod(), await fleet.pod()
    await two.publish(OTHER, "not for it")
    await two.publish(USER, "long ago")
    async with one.connection(None, USER, resume_from=text) as connection:
        await one.publish(USER, "now")
        gap, *rest = await read(connection, "now")
    assert (gap.cause, gap.missed) == ("resume", None)
    assert rest == ["live", "now"]
    assert one.stats().gaps == {"resume": 1}


async def test_an_id_of_another_fleet_or_with_a_place_that_no_log_has_is_a_gap(fleet: LogFleet) -> None:
    one, two = await fleet.pod(), await fleet.pod(channel="another")
    for forged in (await seen_by(two, two), (await seen_by(one, one)).replace("-", "9-")):
        async with one.connection(None, USER, resume_from=forged) as connection:
            await one.publish(USER, "now")
            gap, *_, live, now = await read(connection, "now")
        assert gap.cause in {"resume", "epoch"}
        assert (live, now) == ("live", "now")


async def test_what_the_log_dropped_meanwhile_is_a_gap_with_the_number(fleet: LogFleet) -> None:
    one, two = await fleet.pod(resume_max_bytes=0), await fleet.pod(resume_max_bytes=0)
    id_ = await seen_by(one, two)
    channel = channel_of(one, USER)
    for number in range(10):
        await two.publish(USER, number)
    await two.flush(timeout_s=10)
    await until(lambda: one.stats().delivered + one.stats().received >= 11, "all is read")
    assert fleet.broker.trim(4, channel) == 7
    async with one.connection(None, USER, resume_from=id_) as connection:
        await one.publish(USER, "now")
        gap, *rest = await read(connection, "now")
    assert (gap.cause, gap.missed) == ("trimmed", 6)
    assert rest == [6, 7, 8, 9, "live", "now"]


async def test_what_memory_does_not_hold_comes_from_the_log(fleet: LogFleet) -> None:
    one, two = await fleet.pod(), await fleet.pod(resume_max_bytes=0)
    id_ = await seen_by(one, one)
    for number in range(1_500):
        await one.publish(USER, number)
    await one.flush(timeout_s=10)
    async with two.connection(None, USER, resume_from=id_) as connection:
        # Some of the last may come live.
        assert [item for item in await read(connection, 1_499) if item != "live"] == [*range(1_500)]


async def test_the_entry_at_which_a_pod_began_to_listen_comes_from_the_log(fleet: LogFleet) -> None:
    one = await fleet.pod()
    id_ = await seen_by(one, one)
    for number in range(3):
        await one.publish(USER, number)
    await one.flush(timeout_s=10)
    two = await fleet.pod(resume_max_bytes=8)  # too little to read the ends of the logs before it listens
    async with two.connection(None, USER, resume_from=id_) as connection:
        await one.publish(USER, 3)
        assert await read(connection, 3) == [0, 1, 2, "live", 3]


async def test_who_waits_in_vain_for_a_place_that_never_comes_leaves_nothing(fleet: LogFleet) -> None:
    pod = await fleet.pod()
    for number in range(100):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(mirror_of(pod).reach(0, f"{number}-0/0"), 0.001)
    gc.collect()
    assert not awaited_places(pod)


async def test_two_that_wait_for_one_place_both_get_there(fleet: LogFleet) -> None:
    mirror = mirror_of(await fleet.pod())
    waiting = [asyncio.ensure_future(mirror.reach(0, "9-0")) for _ in range(2)]
    await asyncio.sleep(0)
    gc.collect()
    mirror.passed(mirror.channel(0), "9-0")
    async with asyncio.timeout(10):
        await asyncio.gather(*waiting)


async def test_a_broker_that_freezes_while_a_pod_reads_its_logs_costs_that_link_alone(
    fleet: LogFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, asked = MemoryLogLink.read, list[str]()

    async def freezes_once(self: MemoryLogLink, channel: str, limit: int, **places: Any) -> Any:
        asked.append(channel)
        if len(asked) == 1:
            await asyncio.Event().wait()
        return await read(self, channel, limit, **places)

    monkeypatch.setattr(MemoryLogLink, "read", freezes_once)
    pod = await fleet.pod(wait=False, connect_timeout_s=0.2)
    await until(lambda: pod.state == "live", "another link is live")
    assert len(asked) > 1


async def test_events_that_no_log_has_yet_come_once_wherever_the_client_goes(fleet: LogFleet) -> None:
    one, two = await fleet.pod(), await fleet.pod()
    id_ = one.last_event_id
    for channel in fleet.broker.channels:
        fleet.broker.hold(channel)
    async with one.connection("c", USER, resume_from=id_) as connection:
        for number in range(3):
            await one.publish(USER, number)
        async with asyncio.timeout(10):
            last = [await anext(connection) for _ in range(3)][-1]
    await two.publish(USER, "of the other pod")
    async with two.connection("c", USER, resume_from=last.id) as connection:
        await one.publish(USER, 3)
        fleet.broker.release()
        assert await read(connection, 3) == ["of the other pod", "live", 3]
    async with one.connection("c", USER, resume_from=last.id) as connection:
        await one.publish(USER, 4)
        assert sorted(map(str, await read(connection, 4))) == ["3", "4", "live", "of the other pod"]


async def test_what_a_pod_publishes_while_it_hands_out_a_frame_comes_once_to_those_who_get_the_frame_later(
    fleet: LogFleet,
) -> None:
    one, two = [await fleet.pod() for _ in range(2)]
    has_begun = asyncio.Event()

    def slow(value: object) -> None:
        if value == "frame":
            has_begun.set()
            time.sleep(2 * SLICE_S)  # the loop gets a turn before the others get it

    def plain(_: object) -> None:
        return

    for number in range(SLICE_SINKS):
        await one.attach(f"c{number}", plain if number else slow)
        await one.associate(f"c{number}", USER)
    async with one.connection(None, USER) as last:
        await two.publish(USER, "frame")
        await has_begun.wait()
        await one.publish(USER, "own")
        async with asyncio.timeout(10):
            events = [await anext(last) for _ in range(2)]
    assert [event.value for event in events] == ["own", "frame"], "it was published while others had the frame"
    for pod in (one, two):
        async with pod.connection(None, USER, resume_from=events[-1].id) as connection:
            await pod.publish(USER, "end")
            assert [item for item in await read(connection, "end") if item != "live"] == ["end"]


async def test_a_pod_that_starts_knows_what_was_before_it_and_follows_no_order_of_then(fleet: LogFleet) -> None:
    one, two = await fleet.pod(), await fleet.pod()
    id_ = await seen_by(one, two)
    await two.publish(USER, 1)
    assert (await two.fleet.close(USER, timeout_s=5)).complete
    await two.publish(USER, 2)
    await two.flush(timeout_s=10)
    three = await fleet.pod()
    async with three.connection(None, USER, resume_from=id_) as connection:
        await two.publish(USER, 3)
        assert await read(connection, 3) == [1, 2, "live", 3]
    await all_live(three)


async def test_a_client_across_a_hole_is_notified_of_it_as_the_others_were(fleet: LogFleet) -> None:
    one, two = await fleet.pod(), await fleet.pod(resend_max_bytes=0)
    id_ = await seen_by(one, two)
    fleet.broker.hold(channel_of(one, USER))
    for number in range(3):
        await two.publish(USER, number)
    await two.flush(timeout_s=10)
    fleet.broker.release()
    assert fleet.broker.forget(3, channel_of(one, USER)) == 3
    await two.publish(USER, 3)
    await until(lambda: one.stats().gaps.get("epoch", 0) + one.stats().gaps.get("sequence", 0) > 0, "the hole is seen")
    async with one.connection(None, USER, resume_from=id_) as connection:
        stream = await read(connection, "live")
    assert any(isinstance(item, Gap) for item in stream)


async def test_an_id_that_is_ahead_of_a_pod_waits_for_it(fleet: LogFleet) -> None:
    one, two = await fleet.pod(), await fleet.pod()
    id_ = await seen_by(one, two)
    fleet.broker.cut()
    await until(lambda: two.state == "degraded", "the link is lost")
    opening = asyncio.ensure_future(two.connection(None, USER, resume_from=id_).__aenter__())
    fleet.broker.restore()
    async with asyncio.timeout(10):
        connection = await opening
    await one.publish(USER, "now")
    assert await read(connection, "now") == ["live", "now"]
    await connection.__aexit__(None, None, None)


async def test_on_a_bus_without_a_log_a_gap_comes_first() -> None:
    fleet = MemoryFleet()
    async with fleet.stack:
        for pod in (await fleet.pod(), InMemoryBackplane()):
            assert pod.last_event_id is None
            async with pod.connection(None, USER, resume_from="1.00000000.a") as connection:
                await pod.publish(USER, "now")
                gap, *rest = await read(connection, "now")
            assert gap.cause == "resume"
            assert rest == ["live", "now"]


async def test_memory_for_those_who_come_back_is_bounded() -> None:
    fleet = LogFleet({"resume_max_bytes": 100_000}, MemoryLog())
    async with fleet.stack:
        one, two = await fleet.pod(), await fleet.pod()
        for number in range(2_000):
            await one.publish(USER, number)
        await one.flush(timeout_s=20)
        await until(lambda: two.stats().received >= 2_000, "all is read")
        for pod in (one, two):
            await pod.publish(USER, "one more")
        await until(lambda: one.stats().replayable_bytes <= 101_000, "it is bounded where it was published")
        await until(lambda: two.stats().replayable_bytes <= 101_000, "it is bounded elsewhere")
        for pod in (one, two):
            assert 0 < pod.stats().replayable_events < 500
