"""Frames that none of our encoders made: what the reader of a pod takes, skips and refuses."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import json
from typing import Any

import pytest
from backplane_core import EnvelopeError, Link, Target, decode_envelope
from backplane_core._protocol.frame import decode_head

from tests.support.fleets import MemoryFleet
from tests.support.inside import channel_of, members_of
from tests.support.waiting import until

USER = Target.user("u1")


def frame(**members: Any) -> bytes:
    return json.dumps({"origin": "other", "target": {"User": "u1"}, "event": 1, **members}).encode()


@pytest.mark.parametrize(
    "data",
    [frame(origin="x" * 1025), frame(origin="é" * 513), frame(seq=2, prev=-1), frame(prev=-1)],
    ids=["an origin of 1,025 bytes", "an origin of 1,026 bytes", "prev below 0", "prev below 0 without seq"],
)
def test_the_reader_of_a_pod_refuses_what_decode_envelope_refuses(data: bytes) -> None:
    for decode in (decode_head, decode_envelope):
        with pytest.raises(EnvelopeError):
            decode(data)


@pytest.mark.parametrize("origin", ["x" * 1024, "é" * 512, "🙂" * 256])
def test_an_origin_of_1024_bytes_is_taken(origin: str) -> None:
    assert decode_head(frame(origin=origin)).origin == origin


async def hear(link: Link, text: bytes) -> bytes:
    """The first frame that holds the text."""
    async for batch in link.receive():
        for frame in batch:
            if isinstance(frame, tuple) and text in frame[1]:
                return frame[1]
    raise AssertionError("the link ended")


async def test_an_echo_that_was_written_anew_on_its_way_is_skipped(fleet: MemoryFleet) -> None:
    here, there = await fleet.pod(beat_s=60), await fleet.pod(beat_s=60)
    channel = channel_of(here, USER)
    near, far = await fleet.socket(here, "near", USER), await fleet.socket(there, "far", USER)
    link = fleet.broker.open()
    await link.subscribe([channel])
    await until(lambda: members_of(here).is_settled and members_of(there).is_settled, "the two have greeted each other")
    before = here.stats()
    await here.publish(USER, "once")
    echo = await hear(link, b'"once"')
    fleet.broker.publish((channel, json.dumps(json.loads(echo), indent=2).encode()))
    fleet.broker.publish((channel, frame(event="last")))
    assert await near.has(2) == ["once", "last"]
    assert await far.has(2) == ["once", "last"]
    after = here.stats()
    assert (after.received - before.received, after.echoed - before.echoed) == (1, 2)
    assert there.stats().duplicates == 1
    await link.aclose()
