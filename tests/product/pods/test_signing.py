"""A fleet that signs, over real brokers: a stranger who hears and writes all of the bus gets nothing in."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest
from backplane_core import (
    EnvelopeRejected,
    EventTooLargeError,
    Options,
    Publisher,
    Record,
    SyncPublisher,
    Target,
    connect,
)
from backplane_core._protocol.signing import SIGNED_HEAD_BYTES
from backplane_testservers import Broker

from tests.product.hostile.bus import Bus, opened
from tests.support.fleets import Fleet
from tests.support.inside import channel_of, frame_from
from tests.support.sockets import Socket, settled
from tests.support.waiting import until

OLD, NEW, STRANGE = (
    "0ld-key-of-32-characters-of-text",
    b"new-key-of-32-bytes-of-a-machine",
    b"key-of-another-fleet-of-32-bytes",
)
USER = Target.user("u1")
EVERYONE = Target.everyone()


@pytest.fixture
async def bus(leaves_nothing: None, shared_broker: Broker) -> AsyncIterator[Bus]:
    """A stranger on the fleet's broker."""
    async with opened(shared_broker) as bus:
        yield bus


def errors(*pods: Any) -> list[int]:
    return [pod.stats().signature_errors for pod in pods]


async def test_a_signed_fleet_delivers_in_order_from_pods_and_publishers(fleet: Fleet, long: bool) -> None:  # noqa: FBT001 -- a fixture
    keys: Options = {"signing_keys": [NEW]}
    here, there = await fleet.pod(**keys), await fleet.pod(**keys)
    socket, _ = await fleet.socket(there, "c1", USER), await fleet.socket(here, "c2", USER)
    count = 20_000 if long else 2_000
    async with Publisher(fleet.url, **fleet.options, **keys) as publisher:
        for number in range(count):
            await here.publish(USER, ["pod", number])
            await publisher.publish(USER, ["publisher", number])
    await socket.has(2 * count)
    for sender in ("pod", "publisher"):
        assert [number for who, number in socket.events if who == sender] == list(range(count))
    assert len(socket.events) == 2 * count
    await until(lambda: here.stats().echoed >= count, "the echoes")
    assert errors(here, there) == [0, 0]
    assert there.stats().duplicates == here.stats().collisions == there.stats().decode_errors == 0
    assert socket.gaps == []
    assert here.ready()


async def test_a_sync_publisher_signs_too(redis_url: str, channel: str, leaves_nothing: None) -> None:
    fleet = Fleet(redis_url, {"channel": channel})
    async with fleet.stack:
        pod = await fleet.pod(signing_keys=[NEW])
        socket = await fleet.socket(pod, "c1", USER)

        def work() -> None:
            with SyncPublisher(redis_url, channel=channel, signing_keys=[NEW]) as publisher:
                publisher.publish(USER, "signed")

        await asyncio.to_thread(work)
        assert await socket.has(1) == ["signed"]


def forge(real: list[tuple[str, bytes]], chance: Random) -> tuple[str, bytes]:
    """What somebody makes of real frames who hears all, may write anywhere, and has no key."""
    channel, payload = chance.choice(real)
    other, another = chance.choice(real)
    head, _, plain = payload.partition(b"\n")
    version, kid, at, sig = head.split(b" ")
    frame = json.loads(plain)
    frame["seq"] += chance.randrange(1, 10_000)
    altered = json.dumps(frame).encode()
    flipped = bytearray(payload)
    bit = chance.randrange(8 * len(flipped))
    flipped[bit // 8] ^= 1 << bit % 8
    later = b"%d" % (int(at) + chance.randrange(1, 300))
    stolen = another.partition(b"\n")[0]
    made: list[tuple[str, bytes]] = [
        (channel, payload),
        (other, payload),
        (channel, bytes(flipped)),
        (channel, json.dumps({**frame, "origin": f"forged{chance.randrange(99)}"}).encode()),
        (channel, b"%b %b %b %b\n%b" % (version, kid, later, sig, plain)),
        (channel, b"%b\n%b" % (chance.choice([head, stolen]), altered)),
        (channel, b"%b %b %b %b\n%b" % (version, kid, at, chance.choice([sig[::-1], b"", b"0" * 64]), altered)),
        (channel, b"%b %b %b %b\n%b" % (version, chance.choice([b"", b"0" * 16, kid[::-1]]), at, sig, plain)),
    ]
    return chance.choice(made)


async def test_of_forged_unsigned_replayed_and_misplaced_frames_none_is_accepted(
    fleet: Fleet,
    bus: Bus,
    channel: str,
    caplog: pytest.LogCaptureFixture,
    long: bool,  # noqa: FBT001 -- a fixture
) -> None:
    caplog.set_level(logging.DEBUG)
    keys: Options = {"signing_keys": [NEW]}
    here, there = await fleet.pod(**keys), await fleet.pod(**keys)
    sockets = [await fleet.socket(pod, f"c{number}", USER) for number, pod in enumerate((here, there))]
    paths = {channel, channel_of(here, USER)}
    heard = {path: await bus.hear(path) for path in paths}
    for number in range(50):
        await here.publish(USER, f"s3cr3t-{number}")
        await here.publish(EVERYONE, f"s3cr3t-all-{number}")
    for socket in sockets:
        await socket.has(100)
    await settled(here, sockets=sockets)
    real: list[tuple[str, bytes]] = []

    def all_are_heard() -> bool:
        passed = [frame for queue in heard.values() for frame in [queue.get_nowait() for _ in range(queue.qsize())]]
        own = frame_from(here, b"")
        real.extend(frame for frame in passed if frame[1].startswith(own, SIGNED_HEAD_BYTES))
        return len(real) >= 100

    await until(all_are_heard, "the stranger hears what the pods hear")
    assert all(payload.startswith(b"backplane-signed-1 ") for _, payload in real)
    before = [list(socket.events) for socket in sockets]
    received = there.stats()

    chance, count = Random(7), 100_000 if long else 10_000
    forged = [forge(real, chance) for _ in range(count)]
    for path in paths:
        await bus.write(path, [payload for to, payload in forged if to == path])
    await settled(here, there, sockets=sockets)

    assert [socket.events for socket in sockets] == before
    assert [socket.gaps for socket in sockets] == [[], []]
    now = there.stats()
    refused = now.signature_errors + (now.duplicates - received.duplicates) + (now.echoed - received.echoed)
    # There, every frame was another pod's: each was refused for its signature, or as a copy. Its own markers' echoes
    # came between.
    assert refused - count in range(4)
    assert now.signature_errors > count * 5 // 8
    assert now.duplicates > received.duplicates
    assert now.decode_errors == 0
    assert errors(here)[0] > count // 8
    for secret in ("s3cr3t", NEW.decode(), real[0][1][19:35].decode()):
        assert secret not in caplog.text
    assert "signature is wrong" in caplog.text


async def test_keys_are_rotated_pod_by_pod_and_nothing_good_is_refused(fleet: Fleet) -> None:
    steps: list[list[list[str | bytes]]] = [
        [[OLD], [OLD, NEW]],
        [[OLD, NEW], [NEW, OLD]],
        [[NEW, OLD], [NEW]],
    ]
    sent = 0
    for number, (one, other) in enumerate(steps):
        here, there = await fleet.pod(signing_keys=one), await fleet.pod(signing_keys=other)
        sockets = [await fleet.socket(pod, f"c{number}{pod is here}", USER) for pod in (here, there)]
        for event in range(200):
            await here.publish(USER, ["here", event])
            await there.publish(USER, ["there", event])
            sent += 2
        for socket in sockets:
            await socket.has(400)
            for sender in ("here", "there"):
                assert [event for who, event in socket.events if who == sender] == list(range(200))
            assert socket.gaps == []
        assert errors(here, there) == [0, 0]
        for pod in (here, there):
            await pod.aclose()
    assert sent == 1_200


async def test_a_pod_without_keys_one_with_others_and_one_with_the_fleets_say_that_they_do_not_hear_each_other(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    records: dict[str, list[Record]] = {"plain": [], "signed": [], "strange": []}
    plain = await fleet.pod(observer=records["plain"].append)
    signed = await fleet.pod(signing_keys=[NEW], observer=records["signed"].append)
    strange = await fleet.pod(signing_keys=[STRANGE], observer=records["strange"].append)
    pods = {"plain": plain, "signed": signed, "strange": strange}
    sockets = {name: await fleet.socket(pod, "c1", USER) for name, pod in pods.items()}
    for name, pod in pods.items():
        assert await pod.publish(USER, name) == 1
    await until(lambda: plain.stats().decode_errors >= 4, "the pod without keys to see signed frames")
    await until(lambda: min(errors(signed, strange)) >= 4, "the pods with keys to see frames of others")
    assert {name: socket.events for name, socket in sockets.items()} == {name: [name] for name in pods}
    reasons = {
        name: {one.reason for one in all_ if isinstance(one, EnvelopeRejected)} for name, all_ in records.items()
    }
    others = {
        "not taken: it is not signed, and this pod has signing_keys: give all pods the same ones",
        "not taken: it is signed with a key that this pod does not have: add that to its signing_keys",
    }
    assert reasons == {
        "plain": {"not an envelope: it is signed, and this pod has no signing_keys: give it those of the fleet"},
        "signed": others,
        "strange": others,
    }
    assert errors(plain) == [0]


async def test_the_largest_event_that_the_broker_takes_signed_passes_and_the_next_is_refused_here(
    nats_url: str, channel: str, leaves_nothing: None
) -> None:
    async with (
        connect(nats_url, channel=channel, signing_keys=[NEW]) as here,
        connect(nats_url, channel=channel, signing_keys=[NEW]) as there,
    ):
        socket = Socket("c1")
        await there.attach("c1", socket.stream.append)
        target = Target.connection("c1")
        with pytest.raises(EventTooLargeError) as error:
            await here.publish(target, "x" * 1_048_570)
        fits = "x" * (1_048_570 - (error.value.size - error.value.limit))
        await here.publish(target, fits)
        with pytest.raises(EventTooLargeError):
            await here.publish(target, fits + "x")
        assert await socket.has(1) == [fits]
        assert here.stats().links == 1
