"""`backplane.fleet` over a bus in memory: what pods answer each other, and what nobody can make them do."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from backplane_core import (
    Answers,
    ClosedError,
    ConfigurationError,
    DistributedBackplane,
    EventEncodeError,
    InMemoryBackplane,
    InvalidTargetError,
    PresenceSnapshot,
    Publisher,
    Target,
    Traits,
)
from backplane_core._fleet import asker as asker_module
from backplane_core._protocol.fleet_frame import MAX_INFO_BYTES
from backplane_core.testing import MemoryTransport

from tests.support.fleets import MemoryFleet
from tests.support.inside import (
    beat,
    beat_from,
    frame_from,
    members_of,
    mute,
    next_number,
    origin_of,
    questions_wait,
    what_it_says,
)
from tests.support.waiting import until

USER = Target.user("u1")
ROOM = Target("room", "42")
LONG_S = 30.0
"""For questions that must not wait for their time."""


async def pods(fleet: MemoryFleet, count: int, **options: Any) -> list[DistributedBackplane]:
    """Pods web-0, web-1, ..., of which the first knows all others."""
    found = [await fleet.pod(pod_name=f"web-{number}", **options) for number in range(count)]
    await know(found[0], *found[1:])
    return found


async def know(asker: DistributedBackplane, *others: DistributedBackplane) -> None:
    """Let a pod hear beats of the others, and all of them have said what a new link has them say."""
    for other in others:
        beat(other)
    await until(lambda: len(members_of(asker).present()) >= len(others), "all beats are heard")
    await until(lambda: all(members_of(pod).is_settled for pod in (asker, *others)), "all have greeted each other")


async def test_each_pod_counts_its_own_connections_and_the_sum_is_the_fleets(fleet: MemoryFleet) -> None:
    one, two, three = await pods(fleet, 3)
    await fleet.socket(one, "c1", USER)
    await fleet.socket(two, "c2", USER, ROOM)
    await fleet.socket(two, "c3", USER)
    await fleet.socket(three, "c4", ROOM)
    count = await one.fleet.count(USER, timeout_s=LONG_S)
    assert count == Answers(by_pod={"web-0": 1, "web-1": 2, "web-2": 0}, missing=(), total=3)
    assert count.complete
    assert (await one.fleet.count([USER, ROOM], timeout_s=LONG_S)).total == 4
    assert (await one.fleet.count(Target.everyone(), timeout_s=LONG_S)).total == 4
    assert (await one.fleet.count(Target.connection("c4"), timeout_s=LONG_S)).by_pod["web-2"] == 1


async def test_pods_say_what_they_are(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    await fleet.socket(two, "c1", USER, ROOM)
    found = await one.fleet.pods(timeout_s=LONG_S)
    assert (found.total, [*found.by_pod], found.complete) == (2, ["web-0", "web-1"], True)
    pod = found.by_pod["web-1"]
    assert (pod.name, pod.connections, pod.targets, pod.state) == ("web-1", 1, 2, "live")
    assert (pod.routing, pod.origin) == (fleet.routing, origin_of(two))


async def test_connections_are_listed_with_what_their_hosts_said(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    await two.attach("c1", lambda _: None, info={"app": "web"})
    await two.associate("c1", USER)
    async with one.connection("c2", USER, info=[1, 2.5, None]), two.connection("c3", USER):
        found = await one.fleet.connections(USER, timeout_s=LONG_S)
        shown = {info.conn_id: (info.pod, info.info) for infos in found.by_pod.values() for info in infos}
        assert shown == {"c1": ("web-1", {"app": "web"}), "c2": ("web-0", [1, 2.5, None]), "c3": ("web-1", None)}
        assert found.total == 3
        few = await one.fleet.connections(USER, limit=2, timeout_s=LONG_S)
        assert (sum(map(len, few.by_pod.values())), few.total) == (2, 3)
        # Attached again: what was said of it before is gone.
        await two.attach("c1", lambda _: None)
        again = await one.fleet.connections(Target.connection("c1"), timeout_s=LONG_S)
        assert again.by_pod["web-1"][0].info is None


async def test_the_targets_of_a_connection_are_found_on_whichever_pod_it_is(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    await fleet.socket(two, "c1", USER, ROOM)
    found = await one.fleet.targets("c1", timeout_s=LONG_S)
    assert found.by_pod == {"web-0": frozenset(), "web-1": frozenset({USER, ROOM})}
    assert found.total == 2
    assert (await one.fleet.targets("unknown", timeout_s=LONG_S)).total == 0


async def test_more_than_fits_one_answer_is_counted_and_not_listed(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    for number in range(400):
        await two.attach(f"c{number}", lambda _: None, info="x" * 1000)
    found = await one.fleet.connections(Target.everyone(), timeout_s=LONG_S)
    assert found.total == 400
    assert 200 < len(found.by_pod["web-1"]) < 400


async def test_a_broker_for_small_frames_gets_small_answers_and_none_that_it_would_refuse(fleet: MemoryFleet) -> None:
    small = MemoryTransport(fleet.broker, Traits(single_stream=True, max_payload_bytes=48 * 1024))
    two = await fleet.pod(small, pod_name="web-1", max_event_bytes=1024)
    one = await fleet.pod(pod_name="web-0")
    await know(one, two)
    for number in range(200):
        await two.attach(f"c{number}", lambda _: None, info="x" * 1000)
    found = await one.fleet.connections(Target.everyone(), timeout_s=LONG_S)
    assert (found.total, found.complete) == (200, True)
    assert 5 < len(found.by_pod["web-1"]) < 40
    assert two.stats().dropped == {}


async def test_a_silent_pod_is_named_and_delays_nobody_beyond_the_time(fleet: MemoryFleet) -> None:
    one, two, three = await pods(fleet, 3)
    await fleet.socket(two, "c1", USER)
    mute(three)
    found = await one.fleet.count(USER, timeout_s=0.2)
    assert (found.total, [*found.by_pod], found.complete) == (1, ["web-0", "web-1"], False)
    assert [(pod.pod, pod.reason) for pod in found.missing] == [("web-2", "no answer within 0.2 s")]


async def test_the_first_question_finds_pods_that_were_not_heard_yet(fleet: MemoryFleet) -> None:
    early, asker = await fleet.pod(pod_name="early"), await fleet.pod(pod_name="asker")
    await fleet.socket(early, "c1", USER)
    found = await asker.fleet.count(USER)
    assert (found.by_pod, found.complete) == ({"asker": 0, "early": 1}, True)
    # From now on nobody is waited for who may not exist.
    assert (await asker.fleet.count(USER, timeout_s=LONG_S)).total == 1


async def test_a_pod_of_an_older_version_is_named_at_once(fleet: MemoryFleet) -> None:
    (one,) = await pods(fleet, 1)
    old = b'{"origin":"0ld","target":{"Connection":"0ld"},"event":null,"seq":1,"pod":"web-9"'
    old += b',"routing":"%b","lanes":1}' % fleet.routing.encode()
    fleet.broker.publish(("backplane", old))
    await until(members_of(one).present, "the beat is heard")
    found = await one.fleet.count(USER, timeout_s=LONG_S)
    assert [pod.pod for pod in found.missing] == ["web-9"]
    assert "older version" in found.missing[0].reason


async def test_a_question_of_a_later_version_is_answered_with_no(fleet: MemoryFleet) -> None:
    (one,) = await pods(fleet, 1)
    said = what_it_says(one)
    later = {"level": 2, "ask": {"id": 4, "what": "levitate", "height": 3}}
    fleet.broker.publish(("backplane", pod_frame("new", 1, later)))
    await until(lambda: said, "an answer")
    assert json.loads(b"{" + said[0][1:] + b"}") == {
        "fleet": {"level": 1, "answer": {"to": "new", "id": 4, "no": "unknown"}}
    }


def pod_frame(origin: str, seq: int, fleet: object, routing: str = "broadcast") -> bytes:
    frame = {"origin": origin, "target": {"Connection": origin}, "event": None, "seq": seq}
    return json.dumps({**frame, "pod": "forged", "routing": routing, "lanes": 1, "fleet": fleet}).encode()


async def test_a_pod_without_remote_control_refuses_and_says_so_at_once(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2, remote_control=False)
    await fleet.socket(two, "c1", USER)
    found = await one.fleet.count(USER, timeout_s=LONG_S)
    assert (found.by_pod, [pod.pod for pod in found.missing]) == ({"web-0": 0}, ["web-1"])
    assert "remote_control=False" in found.missing[0].reason


async def test_a_pod_that_leaves_is_not_waited_for_and_no_longer_a_member(fleet: MemoryFleet) -> None:
    one, two, three = await pods(fleet, 3)
    mute(two)
    asking = asyncio.create_task(one.fleet.count(USER, timeout_s=LONG_S))
    await until(lambda: questions_wait(one), "the question waits")
    await two.aclose()
    found = await asking
    assert [(pod.pod, pod.reason) for pod in found.missing] == [("web-1", "it left")]
    found = await one.fleet.count(USER, timeout_s=LONG_S)
    assert ([*found.by_pod], found.complete) == (["web-0", "web-2"], True)
    assert three.state == "live"


async def test_a_pod_that_is_cut_off_says_so_at_once(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    await fleet.socket(one, "c1", USER)
    fleet.broker.cut()
    await one.wait_for_state("degraded")
    found = await one.fleet.count(USER, timeout_s=LONG_S)
    assert (found.by_pod, [pod.pod for pod in found.missing]) == ({"web-0": 1}, ["web-1"])
    assert "cut off" in found.missing[0].reason
    fleet.broker.restore()
    await one.wait_for_state("live")
    await two.wait_for_state("live")
    assert (await one.fleet.count(USER)).complete


async def test_a_pod_that_is_cut_off_and_knows_nobody_says_that_others_may_be_missing(fleet: MemoryFleet) -> None:
    fleet.broker.cut()
    pod = await fleet.pod(pod_name="web-0", wait=False)
    await pod.attach("c1", list[object]().append)
    asked = pod.fleet
    for found in (
        await asked.count(USER, timeout_s=LONG_S),
        await asked.associate(USER, Target.user("u2"), timeout_s=LONG_S),
        await asked.publish(USER, 1, timeout_s=LONG_S),
        await asked.presence(USER, timeout_s=LONG_S),
    ):
        assert ([missing.pod for missing in found.missing], found.complete) == (["other pods"], False)
        assert "cut off" in found.missing[0].reason
    first = await anext(asked.watch(USER))
    assert isinstance(first, PresenceSnapshot)
    assert [missing.pod for missing in first.missing] == ["other pods"]


async def test_pods_of_one_name_are_distinguished_by_their_origins(fleet: MemoryFleet) -> None:
    one, two = await fleet.pod(pod_name="web"), await fleet.pod(pod_name="web")
    await know(one, two)
    found = await one.fleet.count(USER, timeout_s=LONG_S)
    assert set(found.by_pod) == {f"web ({origin_of(one)})", f"web ({origin_of(two)})"}


async def test_a_closed_pod_lets_its_questions_go_and_takes_no_others(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    mute(two)
    asking = asyncio.create_task(one.fleet.count(USER, timeout_s=LONG_S))
    await until(lambda: questions_wait(one), "the question waits")
    await one.aclose()
    assert [pod.pod for pod in (await asking).missing] == ["web-1"]
    with pytest.raises(ClosedError):
        await one.fleet.count(USER)


async def test_a_cancelled_question_leaves_nothing_behind(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    mute(two)
    asking = asyncio.create_task(one.fleet.count(USER, timeout_s=LONG_S))
    await until(lambda: questions_wait(one), "the question waits")
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not questions_wait(one)


async def test_questions_that_wait_are_bounded(fleet: MemoryFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asker_module, "MAX_PENDING", 1)
    one, two = await pods(fleet, 2)
    mute(two)
    asking = asyncio.create_task(one.fleet.count(USER, timeout_s=0.5))
    await until(lambda: questions_wait(one), "the question waits")
    found = await one.fleet.count(USER, timeout_s=LONG_S)
    assert found.missing[0].reason == asker_module.BUSY
    await asking


async def test_questions_and_answers_are_no_events(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    socket = await fleet.socket(two, "c1", USER)
    for _ in range(10):
        await one.fleet.connections(USER, timeout_s=LONG_S)
    await one.publish(USER, "event")
    assert await socket.has(1) == ["event"]
    assert socket.gaps == []
    for pod in (one, two):
        stats = pod.stats()
        assert (stats.decode_errors, stats.dropped, stats.gaps, stats.mismatch) == (0, {}, {}, 0)


HOSTILE: dict[str, Any] = {
    "no object": 1,
    "no level": {},
    "a level below 0": {"level": -1},
    "a level of text": {"level": "1"},
    "a question without an id": {"level": 1, "ask": {"what": "count"}},
    "an id that no double holds": {"level": 1, "ask": {"id": 2**53, "what": "pods"}},
    "a question without targets": {"level": 1, "ask": {"id": 1, "what": "count"}},
    "a target that is none": {"level": 1, "ask": {"id": 1, "what": "count", "targets": [{"user": "u1"}]}},
    "too many targets": {"level": 1, "ask": {"id": 1, "what": "count", "targets": ["Everyone"] * 3_000}},
    "a limit beyond the limit": {"level": 1, "ask": {"id": 1, "what": "targets", "conn": "c1", "limit": 10_001}},
    "a count below 0": {"level": 1, "answer": {"to": "o", "id": 1, "count": -1}},
    "an answer to nobody": {"level": 1, "answer": {"id": 1}},
    "a word as long as a page": {"level": 1, "ask": {"id": 1, "what": "x" * 33}},
}


@pytest.mark.parametrize("saying", HOSTILE.values(), ids=[*HOSTILE])
async def test_what_no_pod_says_is_refused_and_harms_nobody(fleet: MemoryFleet, saying: object) -> None:
    one, two = await pods(fleet, 2)
    before = next_number(one, "backplane")
    fleet.broker.publish(("backplane", pod_frame("forged", 1, saying, fleet.routing)))
    await until(lambda: one.stats().decode_errors == 1, "the frame is refused")
    assert next_number(one, "backplane") == before
    found = await one.fleet.count(USER, timeout_s=LONG_S)
    assert (found.complete, one.state, two.state) == (True, "live", "live")


async def test_an_answer_to_no_question_or_to_another_pod_changes_nothing(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2)
    for seq, to in enumerate((origin_of(one), "somebody"), 1):
        saying = {"level": 0, "answer": {"to": to, "id": 9_999, "count": 7}}
        fleet.broker.publish(("backplane", pod_frame("forged", seq, saying, fleet.routing)))
    await until(lambda: one.stats().received >= 3, "both are heard")
    assert (await one.fleet.count(USER, timeout_s=LONG_S)).by_pod == {"web-0": 0, "web-1": 0}
    assert one.stats().decode_errors == two.stats().decode_errors == 0


async def test_one_question_gets_one_answer_however_often_it_comes(fleet: MemoryFleet) -> None:
    (one,) = await pods(fleet, 1)
    asked = pod_frame("asks", 1, {"level": 0, "ask": {"id": 1, "what": "pods"}}, fleet.routing)
    before = next_number(one, "backplane")
    for _ in range(5):
        fleet.broker.publish(("backplane", asked))
    await until(lambda: one.stats().duplicates == 4, "the copies are heard")
    assert next_number(one, "backplane") == before + 1


async def test_a_frame_that_only_looks_like_a_question_of_ours_is_an_echo(fleet: MemoryFleet) -> None:
    (one,) = await pods(fleet, 1)
    await until(lambda: members_of(one).is_settled, "its own first frames are heard")
    before, stats = next_number(one, "backplane"), one.stats()
    asks = b'{"Connection":"x"},"event":null,"seq":77,"routing":"broadcast","lanes":1,'
    asks += b'"fleet":{"level":1,"ask":{"id":1,"what":"pods"}}}'
    fleet.broker.publish(("backplane", frame_from(one, asks)))
    fleet.broker.publish(("backplane", beat_from(one, b'{"Connection":"x"},"event":null,"seq":76')))
    await until(lambda: one.stats().echoed > stats.echoed and one.stats().beats > stats.beats, "both came")
    assert next_number(one, "backplane") == before


async def test_a_full_outbox_is_left_to_events(fleet: MemoryFleet) -> None:
    one, two = await pods(fleet, 2, outbox_max_messages=10)
    for number in range(6):
        one.publish_nowait(USER, number)
    found = await one.fleet.count(USER, timeout_s=LONG_S)
    assert found.missing[0].reason == asker_module.NO_ROOM
    assert one.stats().dropped == {}
    assert two.state == "live"


async def test_in_memory_the_only_pod_answers_for_itself() -> None:
    async with InMemoryBackplane(pod_name="alone") as pod, pod.connection("c1", USER, info="web"):
        assert await pod.fleet.count(USER) == Answers(by_pod={"alone": 1}, missing=(), total=1)
        found = await pod.fleet.pods()
        assert (found.total, found.by_pod["alone"].connections) == (1, 1)
        assert (await pod.fleet.connections(USER)).by_pod["alone"][0].info == "web"
        assert (await pod.fleet.targets("c1")).by_pod == {"alone": frozenset({USER})}


async def test_a_publisher_is_no_member_and_asks_nobody(fleet: MemoryFleet) -> None:
    (one,) = await pods(fleet, 1)

    class Worker(DistributedBackplane):
        _hears = False

    options: Any = {"routing": fleet.routing, "pod_name": "worker"}
    async with Worker(MemoryTransport(fleet.broker), **options) as worker:
        beat(worker)
        await worker.flush()
        await until(lambda: one.stats().received >= 2, "its beats are heard")
        assert [*(await one.fleet.pods(timeout_s=LONG_S)).by_pod] == ["web-0"]
    with pytest.raises(ConfigurationError, match="hears no answers"):
        _ = Publisher("redis://localhost").fleet


async def test_wrong_arguments_are_refused_before_anybody_is_asked(fleet: MemoryFleet) -> None:
    (one,) = await pods(fleet, 1)
    wrong: Any
    for wrong in (0, -1, float("inf"), float("nan"), "1", None):
        with pytest.raises(ConfigurationError, match="timeout_s"):
            await one.fleet.count(USER, timeout_s=wrong)
    for wrong in (0, 10_001, 1.5, True):
        with pytest.raises(ConfigurationError, match="limit"):
            await one.fleet.connections(USER, limit=wrong)
    with pytest.raises(InvalidTargetError):
        await one.fleet.count([])
    with pytest.raises(InvalidTargetError):
        await one.fleet.targets("")


async def test_info_is_small_and_json(fleet: MemoryFleet) -> None:
    (one,) = await pods(fleet, 1)
    with pytest.raises(ConfigurationError, match="1024"):
        await one.attach("c1", lambda _: None, info="x" * (MAX_INFO_BYTES - 1))
    with pytest.raises(EventEncodeError):
        one.connection("c1", info=object())
    assert one.connection_count == 0
    await one.attach("c1", lambda _: None, info="x" * (MAX_INFO_BYTES - 2))
    assert (await one.fleet.connections(Target.connection("c1"))).total == 1
