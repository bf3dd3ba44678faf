"""Two pods over a broker in memory: what arrives, and what happens around it."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from backplane_core import (
    ClosedError,
    DistributedBackplane,
    EnvelopeRejected,
    EventTooLargeError,
    FleetMismatch,
    Gap,
    Target,
    Traits,
    TransportError,
)
from backplane_core._outbound import frame_builder
from backplane_core.testing import MemoryBroker, MemoryTransport

from tests.support.fleets import MemoryFleet
from tests.support.inside import channel_of, origin_of, shared_channel_of
from tests.support.sockets import Socket
from tests.support.texts import error_texts
from tests.support.waiting import until

USER = Target.user("u1")


async def pair(fleet: MemoryFleet, **options: Any) -> tuple[DistributedBackplane, DistributedBackplane, Socket, Socket]:
    here, there = await fleet.pod(**options), await fleet.pod(**options)
    near = await fleet.socket(here, "near", USER, Target.org("acme"))
    far = await fleet.socket(there, "far", USER)
    return here, there, near, far


async def test_a_publish_reaches_both_pods_once_and_its_own_echo_is_skipped(fleet: MemoryFleet) -> None:
    here, there, near, far = await pair(fleet)
    assert await here.publish(USER, 1) == 1
    assert await there.publish(Target.connection("near"), 2) == 0
    assert await here.publish(Target.everyone(), 3) == 1
    assert await here.publish([USER, Target.org("acme"), USER], 4) == 1
    assert await here.publish(Target.everyone(), 5, exclude=["far"]) == 1
    assert await here.publish([USER, Target.org("acme")], 6, exclude=["near"]) == 0
    await until(lambda: sorted(near.stream) == [1, 2, 3, 4, 5], "what is for the near one")
    await until(lambda: sorted(far.stream) == [1, 3, 4, 6], "what is for the far one")
    await here.flush(timeout_s=5)
    await until(lambda: here.stats().echoed >= 4, "echoes")
    assert len(near.stream) == 5
    assert len(far.stream) == 4
    assert there.stats().duplicates == here.stats().duplicates == 0


async def test_a_tight_loop_loses_nothing_because_publish_paces_itself(fleet: MemoryFleet) -> None:
    here, _there, near, far = await pair(fleet, outbox_max_messages=2_000)
    for number in range(60_000):
        await here.publish(USER, number)
    await here.flush(timeout_s=20)
    await far.has(60_000)
    assert far.stream == near.stream == list(range(60_000))
    assert here.stats().dropped == {}
    assert here.stats().outbox_messages == here.stats().outbox_bytes == 0


async def test_hostile_frames_harm_no_good_one_and_are_counted(fleet: MemoryFleet) -> None:
    here, there, _near, far = await pair(fleet)
    records: list[Any] = []
    there.observer = records.append
    channel = channel_of(there, USER)
    hostile = [
        b"", b"s3cret", b"\xff\xfe", b"[" * 100_000, b"null", b'{"origin":"x"}',
        b'{"origin":"x","target":{"User":"u1","Org":"o"},"event":"s3cret"}',
        b'{"origin":"x","target":{"User":""},"event":"s3cret","seq":1}',
        b'{"origin":"x","target":{"User":"u1"},"event":"s3cret","seq":' + b"9" * 6_000 + b"}",
        b'{"origin":"x","target":{"User":"u1"},"event":"\xff"}',
        b'{"origin":"x","target":{"User":"u1"},"event":' + b"[" * 400_000 + b"]" * 400_000 + b"}",
        b'{"origin":"x","target":{"User":"u1"},"event":"' + b"y" * (2 * 1024 * 1024) + b'"}',
    ]  # fmt: skip
    for number, frame in enumerate(hostile):
        fleet.broker.publish((channel, frame))
        await here.publish(USER, number)
    assert await far.has(len(hostile)) == list(range(len(hostile)))
    assert there.stats().decode_errors == len(hostile)
    assert there.stats().links == 1
    assert len([record for record in records if isinstance(record, EnvelopeRejected)]) == len(hostile)
    (gap,) = [record for record in records if isinstance(record, Gap)]
    assert "too large" in gap.reason, "the last one may have been an event that this pod alone does not take"
    assert len(records) == len(hostile) + 1
    assert "s3cret" not in repr(records)


async def test_an_event_without_a_python_value_reaches_raw_sinks_and_is_counted_for_the_others() -> None:
    fleet = MemoryFleet()
    async with fleet.stack:
        pod = await fleet.pod()
        raw: list[bytes] = []
        decoded = await fleet.socket(pod, "c1")
        await pod.attach("c2", raw.append, raw=True)
        fleet.broker.publish(("backplane", b'{"origin":"x","target":"Everyone","event":[1e999]}'))
        fleet.broker.publish(("backplane", b'{"origin":"x","target":"Everyone","event":2}'))
        assert await decoded.has(1) == [2]
        assert raw == [b"[1e999]", b"2"]
        assert pod.stats().decode_errors == 1


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, GeneratorExit])
async def test_a_sink_that_raises_on_a_remote_event_does_not_end_the_reading(
    fleet: MemoryFleet, error: type[BaseException]
) -> None:
    here, there, _near, far = await pair(fleet)

    def sink(event: Any) -> None:
        raise error("s3cret")

    await there.attach("broken", sink)
    await there.associate("broken", USER)
    for number in range(3):
        await here.publish(USER, number)
    assert await far.has(3) == [0, 1, 2]
    assert there.stats().links == 1


async def test_a_remote_event_for_many_sinks_reaches_all_before_the_next_reaches_any(fleet: MemoryFleet) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    got: list[tuple[int, Any]] = []

    def sink(number: int) -> Callable[[Any], None]:
        return lambda event: got.append((number, event))

    for number in range(3_000):
        await there.attach(f"c{number}", sink(number))
    for event in range(3):
        await here.publish(Target.everyone(), event)
    await until(lambda: len(got) == 9_000, "three events at 3,000 connections")
    assert [event for _, event in got] == [0] * 3_000 + [1] * 3_000 + [2] * 3_000


async def test_an_event_over_the_brokers_limit_reaches_nobody(fleet: MemoryFleet) -> None:
    transport = MemoryTransport(fleet.broker, Traits(max_payload_bytes=500))
    here, there = await fleet.pod(transport), await fleet.pod()
    near, far = await fleet.socket(here, "near", USER), await fleet.socket(there, "far", USER)
    with pytest.raises(EventTooLargeError) as error:
        await here.publish(USER, "s3cret" * 100)
    assert error.value.limit == 500
    assert error.value.size > 600
    assert "s3cret" not in error_texts(error.value)
    assert await here.publish(USER, "x" * 300) == 1
    await far.has(1)
    assert near.stream == far.stream == ["x" * 300]
    assert here.stats().published == 1


@pytest.mark.parametrize(
    ("mine", "other"),
    [
        ({"routing": "broadcast"}, {"routing": "interest"}),
        ({"routing": "broadcast", "lanes": 1}, {"routing": "broadcast", "lanes": 2}),
    ],
    ids=str,
)
async def test_a_pod_that_routes_otherwise_is_told_once_and_counted(
    mine: dict[str, Any], other: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    fleet = MemoryFleet()
    records: list[Any] = []
    async with fleet.stack:
        with caplog.at_level(logging.ERROR, "backplane"):
            pod = await fleet.pod(observer=records.append, **mine)
            stranger = await fleet.pod(beat_s=0.05, probe_interval_s=0.5, **other)
            await until(lambda: pod.stats().mismatch >= 2, "two beats of the stranger")
    mismatches = [record for record in records if isinstance(record, FleetMismatch)]
    assert [record.origin for record in mismatches] == [origin_of(stranger)]
    assert "routing" in mismatches[0].reason
    assert len([record for record in caplog.records if "do not hear all" in record.message]) >= 1


async def test_a_pod_of_the_same_fleet_is_no_mismatch(fleet: MemoryFleet) -> None:
    here, there, _near, far = await pair(fleet, beat_s=0.05, probe_interval_s=0.5)
    await here.publish(USER, 1)
    await far.has(1)
    await until(lambda: here.stats().beats >= 2, "beats")
    assert here.stats().mismatch == there.stats().mismatch == 0
    assert here.ready()
    assert here.ready().last_beat is not None


@pytest.mark.parametrize("routing", ["broadcast", "interest"])
async def test_more_targets_than_routes_are_kept_of_all_arrive_in_order_and_without_a_hole(
    routing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_builder, "MAX_CHANNELS", 3)
    fleet = MemoryFleet(routing)
    users = [Target.user(f"u{number}") for number in range(7)]
    async with fleet.stack:
        here, there = await fleet.pod(), await fleet.pod()
        sockets = [await fleet.socket(there, f"c{number}", user) for number, user in enumerate(users)]
        for number in range(5):
            for user in [*users, users[0]]:
                await here.publish(user, number)
        for number, socket in enumerate(sockets):
            assert await socket.has(10 if number == 0 else 5) == [
                it for it in range(5) for _ in range(2 if number == 0 else 1)
            ]
        assert there.stats().gaps == {}
        assert there.stats().duplicates == 0
        assert len(here._sender.frames.routes) == 3


async def test_a_frame_is_what_the_format_says(fleet: MemoryFleet) -> None:
    pod = await fleet.pod()
    link = fleet.broker.open()
    channels = [channel_of(pod, USER), shared_channel_of(pod)]
    await link.subscribe(list(dict.fromkeys(channels)))
    await pod.publish(USER, {"k": 1}, exclude=["c9"])
    await pod.publish([USER, Target.everyone()], None)
    await pod.flush(timeout_s=5)
    frames: list[dict[str, Any]] = []
    async with asyncio.timeout(5):
        async for batch in link.receive():
            frames += [json.loads(frame[1]) for frame in batch if isinstance(frame, tuple)]
            if len(frames) >= 2:
                break
    await link.aclose()
    single = next(frame for frame in frames if frame["target"] == {"User": "u1"})
    assert single.items() >= {"event": {"k": 1}, "exclude": ["c9"], "origin": origin_of(pod)}.items()
    everyone = next(frame for frame in frames if frame["target"] == "Everyone")
    assert everyone["event"] is None
    assert "also" not in everyone


class Refusing(MemoryTransport):
    """A broker that refuses for good."""

    async def open(self) -> Any:
        raise TransportError("wrong certificate", retryable=False)


async def test_a_refusal_for_good_is_told_at_once(leaves_nothing: None) -> None:
    async with asyncio.timeout(2):
        with pytest.raises(TransportError, match="wrong certificate"):
            await DistributedBackplane(Refusing(), connect_timeout_s=60).open()


async def test_a_broker_that_is_away_at_start_is_waited_for_within_the_timeout(leaves_nothing: None) -> None:
    broker = MemoryBroker()
    broker.cut()
    pod = DistributedBackplane(MemoryTransport(broker), connect_timeout_s=5)
    opening = asyncio.create_task(pod.open())
    await asyncio.sleep(0)
    broker.restore()
    async with asyncio.timeout(3):
        await opening
    assert pod.state == "live"
    await pod.aclose()
    with pytest.raises(ClosedError):
        await pod.open()


async def test_a_cancelled_opening_leaves_nothing_and_is_closed(leaves_nothing: None) -> None:
    broker = MemoryBroker()
    broker.cut()
    pod = DistributedBackplane(MemoryTransport(broker))
    opening = asyncio.create_task(pod.open())
    await asyncio.sleep(0.01)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert pod.state == "closed"
