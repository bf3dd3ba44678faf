"""Frames written by hand from the format: ours come out to the byte, and every one of them is read as it is meant."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

from typing import Any

import pytest
from backplane_core import Record, Target, decode_envelope, encode_envelope
from backplane_core._outbound.sender import Sender
from backplane_core._protocol.own_frames import OwnFrames
from backplane_core._protocol.peers import Peers
from backplane_core._protocol.routing import make_routing
from backplane_core._runtime.reporter import Reporter
from backplane_core._runtime.system import System
from backplane_core.options import Settings
from backplane_core.target import targets_in

from tests.product.interop.golden import FRAMES, MEANINGS, is_for_pods, meaning
from tests.support.fleets import MemoryFleet

EMITTED = [name for name in FRAMES if name.startswith("emitted")]
# What the sender is told, and how many frames it sent before.
BEATS: dict[str, tuple[dict[str, Any], int]] = {
    "beat_of_broadcast": ({}, 11),
    "beat_of_lanes": ({"lanes": 8}, 11),
    "beat_of_interest_first": ({"routing": "interest"}, 0),
}


def test_every_golden_frame_has_a_meaning_and_every_meaning_a_frame() -> None:
    assert set(FRAMES) == set(MEANINGS)
    assert len(EMITTED) >= 14
    assert set(BEATS) == {name for name in FRAMES if name.startswith("beat")}


@pytest.mark.parametrize("name", FRAMES)
def test_a_golden_frame_is_read_as_it_is_meant(name: str) -> None:
    read = decode_envelope(FRAMES[name])
    assert read == meaning(name)
    # 1 == 1.0 == True, so types are compared by what they look like.
    assert repr(read.event) == repr(MEANINGS[name]["event"])


@pytest.mark.parametrize("name", EMITTED)
def test_a_frame_that_we_write_is_the_golden_one_to_the_byte(name: str) -> None:
    assert encode_envelope(meaning(name)) == FRAMES[name]


@pytest.mark.parametrize("name", BEATS)
async def test_a_beat_is_the_golden_one_to_the_byte(name: str) -> None:
    options, before = BEATS[name]
    settings = Settings.of(options)
    routing = make_routing(settings.routing, settings.channel, settings.lanes)
    records: list[Record] = []
    reporter = Reporter(observer=records.append)
    peers = Peers(routing, settings.origin_ttl_s, reporter)
    sender = Sender(OwnFrames.of("6f1c", routing, "web-3"), routing, settings, peers, reporter, System())
    for _ in range(before):
        sender.send((Target.everyone(),), b"1", None)
    sender.beat(0.0)
    assert sender.outbox.take(1 << 20)[-1] == ("backplane", FRAMES[name])
    assert records == []


@pytest.mark.parametrize("name", FRAMES)
async def test_a_pod_delivers_a_golden_frame_to_whom_it_is_for(fleet: MemoryFleet, name: str) -> None:
    envelope = meaning(name)
    pod = await fleet.pod()
    whom = envelope.to or (envelope.target, *envelope.also)
    targets = {target for term in whom for target in targets_in(term)} - {Target.everyone()}
    socket = await fleet.socket(pod, "socket", *targets)
    c1 = await fleet.socket(pod, "c1", *targets)
    fleet.broker.publish(("backplane", FRAMES[name]))
    fleet.broker.publish(("backplane", b'{"origin":"end","target":"Everyone","event":"end"}'))
    # A beat reaches nobody, not even who is called like its sender.
    events = [] if is_for_pods(name) else [envelope.event]
    assert await socket.has(len(events) + 1) == [*events, "end"]
    assert await c1.has(1) == [*([] if "c1" in envelope.exclude else events), "end"]
    assert pod.stats().decode_errors == 0
    assert pod.stats().foreign == (1 if envelope.seq else 2)
