"""Targets with *and* and *not*: who gets what, on which channel it travels, what is refused; against a plain model."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from backplane_core import (
    EventTooLargeError,
    Intersection,
    InvalidTargetError,
    SyncPublisher,
    Target,
)
from backplane_core._local.arguments import normalize_targets, read_exclusion
from backplane_core._local.registry import Registry
from backplane_core._protocol.exclusion import Exclusion
from backplane_core.target import MAX_INTERSECTED, MAX_INTERSECTIONS, targets_in
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fleets import MemoryFleet
from tests.support.inside import channel_of, members_of
from tests.support.waiting import until

USER, WEB, ROOM = Target.user("u1"), Target("app", "web"), Target("room", "42")
ALL = (USER, WEB, ROOM, Target.org("acme"), Target("room", "ü"))
LONG_S = 30.0
"""For questions that must not wait for their time."""


@pytest.fixture(params=["broadcast", "interest"])
async def fleet(leaves_nothing: None, request: pytest.FixtureRequest) -> AsyncIterator[MemoryFleet]:
    fleet = MemoryFleet(request.param)
    async with fleet.stack:
        yield fleet


def test_an_intersection_names_its_targets_once_and_everyone_adds_nothing() -> None:
    both = USER & WEB
    assert isinstance(both, Intersection)
    assert (both.targets, both.wire) == ((USER, WEB), b'[{"User":"u1"},{"App":"web"}]')
    assert both == USER & WEB != WEB & USER
    assert hash(both) == hash(USER & WEB)
    assert USER & USER is USER
    assert USER & Target.everyone() is USER
    assert Target.everyone() & USER is USER
    assert Target.everyone() & Target.everyone() is Target.everyone()
    assert both & WEB == both
    assert (both & ROOM) == (USER & (WEB & ROOM)) == Intersection((USER, WEB, ROOM))
    assert repr(both) == f"Intersection(targets=({USER!r}, {WEB!r}))"


def test_nonsense_is_refused_with_what_is_allowed() -> None:
    wrong: Any
    empty: tuple[Any, ...] = ([], (), set[Target]())
    for wrong in empty:
        with pytest.raises(InvalidTargetError, match="name at least one"):
            normalize_targets(wrong)
    for wrong in ("app:web", 7, None, [WEB]):
        with pytest.raises(TypeError):
            _ = USER & wrong
        with pytest.raises(TypeError):
            _ = USER & WEB & wrong
    many: Any = USER
    for number in range(MAX_INTERSECTED - 1):
        many &= Target("room", str(number))
    with pytest.raises(InvalidTargetError, match="2 to 8"):
        _ = many & WEB
    rooms = [Target("room", str(number)) for number in range(MAX_INTERSECTIONS + 1)]
    with pytest.raises(InvalidTargetError, match="at most 64"):
        normalize_targets([USER & room for room in rooms])
    with pytest.raises(InvalidTargetError, match="at most 64"):
        read_exclusion(rooms)
    with pytest.raises(InvalidTargetError, match="nobody"):
        read_exclusion([Target.everyone()])
    for wrong in ("c1", USER, USER & WEB, 7):
        with pytest.raises(InvalidTargetError, match="must be a list"):
            read_exclusion(wrong)
    for wrong in ((), (USER,), (USER, USER), (USER, "app:web"), (USER, USER & WEB)):
        with pytest.raises(InvalidTargetError):
            Intersection(wrong)
    assert hash(Intersection([USER, WEB])) == hash(USER & WEB)


terms = st.one_of(
    st.sampled_from([*ALL, Target.everyone(), Target.connection("c1"), Target.connection("gone")]),
    st.lists(
        st.sampled_from([*ALL, Target.connection("c2"), Target.everyone()]), min_size=2, max_size=4, unique=True
    ).map(lambda targets: Intersection(tuple(targets))),
)


@given(
    st.lists(st.sets(st.sampled_from(ALL)), max_size=6),
    st.lists(terms, min_size=1, max_size=3, unique=True),
    st.sets(st.sampled_from(["c0", "c1", "c2", "gone"])),
    st.lists(terms, max_size=2, unique=True),
)
def test_the_registry_finds_whom_set_theory_says(
    connections: list[set[Target]],
    whom: list[Target | Intersection],
    ids: set[str],
    barred: list[Target | Intersection],
) -> None:
    registry = Registry()
    for number, own in enumerate(connections):
        registry.attach(f"c{number}", print, raw=True, on_gap=None, now=0)
        for target in own:
            registry.associate(f"c{number}", target)

    def matches(number: int, term: Target | Intersection) -> bool:
        has = {*connections[number], Target.everyone(), Target.connection(f"c{number}")}
        return has.issuperset(targets_in(term))

    expected = {
        f"c{number}"
        for number in range(len(connections))
        if any(matches(number, term) for term in whom)
        and not any(matches(number, term) for term in barred)
        and f"c{number}" not in ids
    }
    exclusion = Exclusion(tuple(ids), tuple(barred)) if ids or barred else None
    found = [entry.conn_id for entry in registry.resolve(whom, exclusion)]
    assert sorted(found) == sorted(expected)
    everybody = list(registry.connections.values())
    kept = {entry.conn_id for entry in registry.keep(everybody, whom, exclusion)}
    assert kept - ids == expected


async def test_an_event_for_both_reaches_who_has_both_here_and_there_and_names_the_first(fleet: MemoryFleet) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    for pod in (here, there):
        for name, own in (("both", (USER, WEB)), ("user", (USER,)), ("web", (WEB,)), ("all", (USER, WEB, ROOM))):
            await fleet.socket(pod, f"{name}-{pod is here}", *own)
    both, last = [await fleet.socket(pod, f"c-{pod is here}", USER, WEB) for pod in (here, there)]
    async with there.connection(None, WEB, USER) as connection:
        assert await here.publish(USER & WEB, "and") == 3
        event = await anext(connection)
        assert (event.value, event.target) == ("and", USER)
    assert await here.publish(USER & WEB, "not", exclude=[ROOM, both.conn_id]) == 1
    assert await here.publish([USER & ROOM, Target.org("acme")], "union") == 1
    assert await here.publish(USER, "not both", exclude=[USER & WEB]) == 1
    assert await here.publish(Target.everyone(), "end", exclude=[USER & ROOM]) == 4
    assert await last.has(3) == ["and", "not", "end"]
    assert both.events == ["and", "end"]
    for pod in (here, there):
        stats = pod.stats()
        assert (stats.decode_errors, stats.gaps, stats.dropped) == (0, {}, {})


async def test_an_event_keeps_its_order_with_those_of_its_first_target_and_has_its_channel(fleet: MemoryFleet) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    assert channel_of(here, USER & WEB) == channel_of(here, USER)
    socket = await fleet.socket(there, "c1", USER, WEB)
    for number in range(0, 300, 3):
        await here.publish(USER, number)
        await here.publish(USER & WEB, number + 1)
        await here.publish(USER, number + 2, exclude=[ROOM])
    assert await socket.has(300) == list(range(300))
    assert socket.gaps == []


async def test_a_lost_event_for_both_is_a_gap_of_who_might_have_got_it(fleet: MemoryFleet) -> None:
    here, there = await fleet.pod(outbox_max_messages=2), await fleet.pod()
    socket = await fleet.socket(there, "c1", USER, WEB)
    await until(lambda: members_of(here).is_settled and not here.stats().outbox_messages, "nothing waits")
    for number in range(6):
        here.publish_nowait(USER & WEB, number)
    dropped = sum(here.stats().dropped.values())
    assert dropped >= 4
    await until(lambda: sum(gap.missed or 0 for gap in socket.gaps) >= dropped, "what is missing is reported")
    assert len(socket.events) == 6 - dropped


async def test_the_frame_is_addressed_to_nobody_who_does_not_know_it(
    fleet: MemoryFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames: list[dict[str, Any]] = []
    publish = fleet.broker.publish

    def tapped(frame: Any) -> None:
        frames.append(json.loads(frame[1]))
        publish(frame)

    monkeypatch.setattr(fleet.broker, "publish", tapped)
    pod = await fleet.pod()
    await pod.publish(USER & WEB, "a")
    await pod.publish(USER, "b", exclude=[ROOM, "c1"])
    await pod.publish([USER & WEB, ROOM], "c", key="k")
    await pod.publish([USER, ROOM], "d", exclude=["c1"])
    await pod.flush()
    sent = {frame["event"]: frame for frame in frames if isinstance(frame["event"], str)}
    nobody = {"Connection": sent["a"]["origin"]}
    assert [sent[name]["target"] for name in "abc"] == [nobody] * 3
    assert sent["a"]["to"] == {"any": [[{"User": "u1"}, {"App": "web"}]]}
    assert (sent["b"]["to"], sent["b"]["exclude"]) == ({"any": [{"User": "u1"}], "not": [{"Room": "42"}]}, ["c1"])
    assert sent["c"]["to"] == {"any": [[{"User": "u1"}, {"App": "web"}], {"Room": "42"}]}
    assert "to" not in sent["d"]


async def test_the_fleet_is_asked_and_ordered_about_intersections(fleet: MemoryFleet) -> None:
    here, there = await fleet.pod(pod_name="here"), await fleet.pod(pod_name="there")
    await until(lambda: len(members_of(here).present()) == 1, "the other one is known")
    for pod, name in ((here, "h"), (there, "t")):
        await fleet.socket(pod, f"{name}-both", USER, WEB)
        await fleet.socket(pod, f"{name}-user", USER)
    both = USER & WEB
    assert (await here.fleet.count(both, timeout_s=LONG_S)).by_pod == {"here": 1, "there": 1}
    assert (await here.fleet.count([both, Target.connection("t-user")], timeout_s=LONG_S)).total == 3
    found = await here.fleet.connections(both, timeout_s=LONG_S)
    assert {one.conn_id for ones in found.by_pod.values() for one in ones} == {"h-both", "t-both"}
    receipt = await here.fleet.publish(both, "hello", exclude=[ROOM], timeout_s=LONG_S)
    assert (receipt.local, receipt.total, receipt.complete) == (1, 2, True)
    assert (await here.fleet.associate(both, ROOM, timeout_s=LONG_S)).total == 2
    assert (await here.fleet.publish(both, "hello", exclude=[ROOM], timeout_s=LONG_S)).total == 0
    assert (await here.fleet.dissociate(both, ROOM, timeout_s=LONG_S)).total == 2
    assert (await here.fleet.close([both, Target.user("u9")], timeout_s=LONG_S)).by_pod == {"here": 1, "there": 1}
    assert (await here.fleet.count(USER, timeout_s=LONG_S)).total == 2
    with pytest.raises(InvalidTargetError):
        await here.fleet.associate(USER, both)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for pod in (here, there):
        assert pod.stats().decode_errors == 0


async def test_a_connection_that_changes_meanwhile_gets_nothing_that_it_is_excluded_from(fleet: MemoryFleet) -> None:
    """In a fan-out that lets others run, who joins an excluded target, or loses one of two, is passed by."""
    here, there = await fleet.pod(), await fleet.pod()
    got: list[str] = []

    def sink(conn_id: str) -> Any:
        def take(_: object) -> None:
            got.append(conn_id)
            if conn_id == "c0":
                there.associate_nowait("c1998", ROOM)
                asyncio.get_running_loop().call_soon(there._registry.dissociate, "c1999", WEB)

        return take

    for number in range(2_000):
        await there.attach(f"c{number}", sink(f"c{number}"))
        there.associate_nowait(f"c{number}", USER)
        there.associate_nowait(f"c{number}", WEB)
    await there.associate("c0", USER)
    await here.publish(USER & WEB, "x" * 10_000, exclude=[ROOM, "c5"])
    await until(lambda: len(got) >= 1_996, "nearly all")
    assert "c5" not in got
    assert len(got) == len(set(got))


async def test_frames_that_say_it_wrongly_are_refused_and_reach_nobody(fleet: MemoryFleet) -> None:
    pod = await fleet.pod()
    socket = await fleet.socket(pod, "c1", USER, WEB)
    term = [{"User": "u1"}, {"App": "web"}]
    wrong: Sequence[Any] = (
        1,
        [],
        {},
        {"any": []},
        {"any": [[{"User": "u1"}]]},
        {"any": [[*term, "Nobody"]]},
        {"any": [[{"Room": str(number)} for number in range(MAX_INTERSECTED + 1)]]},
        {"any": [[*term, {"Room": str(number)}] for number in range(MAX_INTERSECTIONS + 1)]},
        {"any": [{"User": "u1"}], "not": [{"Room": str(number)} for number in range(MAX_INTERSECTIONS + 1)]},
        {"any": [{"User": "u1"}], "not": [7]},
        {"any": [{"User": "u1"}] * 2_049},
    )
    for to in wrong:
        frame = {"origin": "o", "target": {"Connection": "o"}, "to": to, "event": 1}
        fleet.broker.publish(("backplane", json.dumps(frame).encode()))
    good = {"origin": "o", "target": {"Connection": "o"}, "to": {"any": [term, term], "not": None}, "event": "good"}
    fleet.broker.publish(("backplane", json.dumps(good).encode()))
    assert await socket.has(1) == ["good"]
    assert pod.stats().decode_errors == len(wrong)


async def test_an_event_that_is_too_large_for_the_broker_is_refused_before_anyone_has_it(fleet: MemoryFleet) -> None:
    pod = await fleet.pod(max_event_bytes=1_000)
    with pytest.raises(EventTooLargeError):
        await pod.publish(USER & WEB, "x" * 1_000)
    assert pod.stats().published == 0


def test_code_without_a_loop_is_refused_the_same() -> None:
    publisher = SyncPublisher("redis://localhost:1")
    with pytest.raises(InvalidTargetError):
        publisher.publish([], 1)
    with pytest.raises(InvalidTargetError):
        publisher.publish(USER & WEB, 1, exclude=[Target.everyone()])
    publisher.close()
