"""How a pod that begins to hear learns who is there: it says hello, and the others beat, few times and not together."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from backplane_core import DistributedBackplane, Frame, Target
from backplane_core._fleet.greeting import BETWEEN_BEATS_S
from backplane_core.testing import MemoryTransport

from tests.support.fleets import MemoryFleet
from tests.support.inside import members_of, mute, questions_wait
from tests.support.waiting import until

USER = Target.user("u1")
LONG_S = 30.0
"""For questions that must not wait for their time."""


def hello_from(origin: str, routing: str) -> bytes:
    members = {"routing": routing, "lanes": 1, "fleet": {"level": 0, "hello": True}}
    return json.dumps({"origin": origin, "target": {"Connection": origin}, "event": None, "seq": 1, **members}).encode()


async def beats_again(pod: DistributedBackplane, before: int) -> None:
    await until(lambda: pod.stats().beats > before, "a beat of its own comes back")


async def test_the_first_question_of_a_pod_waits_for_nobody_who_does_not_exist(fleet: MemoryFleet) -> None:
    early = await fleet.pod(pod_name="early")
    await fleet.socket(early, "c1", USER)
    asker = await fleet.pod(pod_name="asker")
    found = await asker.fleet.count(USER, timeout_s=LONG_S)
    assert (found.by_pod, found.complete) == ({"asker": 0, "early": 1}, True)


async def test_a_pod_knows_the_others_although_it_has_asked_nothing(fleet: MemoryFleet) -> None:
    names = [f"web-{number}" for number in range(5)]
    for name in names:
        await fleet.pod(pod_name=name)
    asker = await fleet.pod(pod_name="asker")
    await until(lambda: len(members_of(asker).present()) == len(names), "each has beaten")
    await until(lambda: members_of(asker).is_settled, "nobody else is waited for")


async def test_a_pod_that_is_heard_while_a_question_waits_is_waited_for_and_named(fleet: MemoryFleet) -> None:
    silent = await fleet.pod(pod_name="silent")
    mute(silent)
    asker = await fleet.pod(pod_name="asker")
    asking = asyncio.create_task(asker.fleet.count(USER, timeout_s=2.0))
    await until(lambda: questions_wait(asker), "the question waits")
    assert [(pod.pod, pod.reason) for pod in (await asking).missing] == [("silent", "no answer within 2 s")]


async def test_a_pod_of_an_older_version_that_is_heard_meanwhile_is_named_and_not_waited_for(
    fleet: MemoryFleet,
) -> None:
    asker = await fleet.pod(pod_name="asker")
    asking = asyncio.create_task(asker.fleet.count(USER, timeout_s=LONG_S))
    await until(lambda: questions_wait(asker), "the question waits")
    old = {"origin": "0ld", "target": {"Connection": "0ld"}, "event": None, "seq": 1, "pod": "web-9"}
    beat = json.dumps({**old, "routing": fleet.routing, "lanes": 1}).encode()
    fleet.broker.publish(("backplane", beat))
    found = await asking
    assert [pod.pod for pod in found.missing] == ["web-9"]
    assert "older version" in found.missing[0].reason


async def test_after_a_lost_link_a_pod_says_hello_again_and_knows_who_came_meanwhile(fleet: MemoryFleet) -> None:
    asker = await fleet.pod(pod_name="asker")
    await until(lambda: members_of(asker).is_settled, "nobody is waited for")
    fleet.broker.cut()
    await asker.wait_for_state("degraded")
    assert not members_of(asker).is_listening
    fleet.broker.restore()
    late = await fleet.pod(pod_name="late")
    await asker.wait_for_state("live")
    found = await asker.fleet.count(USER, timeout_s=LONG_S)
    assert (set(found.by_pod), found.complete) == ({"asker", "late"}, True)
    assert late.state == "live"


async def test_many_that_say_hello_at_once_are_answered_with_few_beats(fleet: MemoryFleet) -> None:
    pods = [await fleet.pod(pod_name=f"web-{number}") for number in range(10)]
    for pod in pods:
        await until(lambda pod=pod: members_of(pod).is_settled, "nobody is waited for")  # type: ignore[misc]
    clock = asyncio.get_running_loop().time
    begun, before = clock(), [pod.stats().beats for pod in pods]
    for number in range(500):
        fleet.broker.publish(("backplane", hello_from(f"forged-{number}", fleet.routing)))
        if not number % 50:
            await asyncio.sleep(0.02)
    for pod, beats in zip(pods, before, strict=True):
        await beats_again(pod, beats)
    # One for what came until then, one for what came later, and one for its own rhythm; more only if time has passed.
    most = 3 + (clock() - begun) / BETWEEN_BEATS_S
    for pod, beats in zip(pods, before, strict=True):
        assert pod.stats().beats - beats <= most, (pod.stats().beats, beats, most)


async def test_a_pod_that_only_publishes_says_no_hello(fleet: MemoryFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    frames: list[bytes] = []
    publish = fleet.broker.publish

    def tapped(frame: Frame) -> None:
        frames.append(frame[1])
        publish(frame)

    monkeypatch.setattr(fleet.broker, "publish", tapped)

    class Worker(DistributedBackplane):
        _hears = False

    options: Any = {"routing": fleet.routing, "pod_name": "worker"}
    async with Worker(MemoryTransport(fleet.broker), **options) as worker:
        await worker.publish(USER, 1)
        await worker.flush()
    assert frames
    assert not any(b'"hello"' in frame for frame in frames)
    await fleet.pod()
    await until(lambda: any(b'"hello":true' in frame for frame in frames), "a pod that hears does")
