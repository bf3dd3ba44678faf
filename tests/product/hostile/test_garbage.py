"""A pod on whose channels strangers write keeps delivering, counts what was hostile, and shows nothing of it."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import logging
from typing import Any

import pytest
from backplane_core import (
    BackplaneEnvelope,
    DistributedBackplane,
    FleetMismatch,
    Record,
    Target,
    encode_envelope,
)
from backplane_core._protocol.frame import MAX_EXCLUDED, MAX_TARGETS

from tests.product.core.test_envelope import HOSTILE
from tests.product.hostile.bus import Bus
from tests.product.hostile.frames import SECRET, frame
from tests.support.fleets import Fleet
from tests.support.inside import channel_of, frame_from, tracker_of
from tests.support.sockets import settled
from tests.support.waiting import until

TARGET = Target.user("u1")
OTHERS: dict[str, bytes] = {
    "a secret, cut off": frame(event=b'{"text":"%b' % SECRET.encode()),
    "a secret beside bad utf-8": frame(later=b'"%b\xff"' % SECRET.encode()),
    "a secret as a kind": frame(target=b'{"%b":"x"}' % SECRET.encode()),
    "a secret as a number": frame(seq=b'"%b"' % SECRET.encode()),
    "a secret with a lone surrogate": frame(event=b'"%b\\ud800"' % SECRET.encode()),
    "seq beyond 64 bits": frame(seq=b"18446744073709551616"),
    "prev beyond 64 bits": frame(seq=b"9", prev=b"18446744073709551616"),
    "prev after seq": frame(seq=b"9", prev=b"10"),
    "prev is seq": frame(seq=b"9", prev=b"9"),
    "prev below 0": frame(seq=b"9", prev=b"-1"),
    "an origin of 1,025 bytes": frame(origin=b'"%b"' % (b"x" * 1_025)),
    "a routing of 65 characters": frame(routing=b'"%b"' % (b"x" * 65)),
    "lanes below 0": frame(lanes=b"-1"),
    "lanes without end": frame(lanes=b"1000001"),
    "a kind of 100,000 letters": frame(target=b'{"%b":"x"}' % (b"A" * 100_000)),
    "too many targets": frame(also=b"[%b]" % b",".join([b'"Everyone"'] * MAX_TARGETS)),
    "too many excluded": frame(exclude=b"[%b]" % b",".join([b'"c"'] * (MAX_EXCLUDED + 1))),
}
ALL = {**HOSTILE, **OTHERS}


def paths(pod: Any, channel: str) -> list[str]:
    """The channels that the pod hears for the target: the shared one, and its own if it has one."""
    own = channel_of(pod, TARGET)
    return [channel] if own == channel else [channel, own]


async def test_a_thousand_events_between_hostile_frames_arrive_in_order_and_what_was_hostile_is_counted(
    fleet: Fleet, bus: Bus, channel: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    records: list[Record] = []
    here, there = await fleet.pod(observer=records.append), await fleet.pod(observer=records.append)
    socket = await fleet.socket(there, "c1", TARGET)
    hostile = [(path, data) for data in ALL.values() for path in paths(there, channel)]
    good = 0
    for number in range(1_000):
        await here.publish(TARGET, [SECRET, number])
        good += 1
        # Spread evenly: some between any two dozen of good ones.
        due = hostile[number * len(hostile) // 1_000 : (number + 1) * len(hostile) // 1_000]
        for path, data in due:
            await here.flush(timeout_s=20)
            await bus.write(path, [data])
    await settled(here, sockets=[socket])
    assert socket.events == [[SECRET, number] for number in range(good)]
    await until(lambda: there.stats().decode_errors >= len(hostile), f"{len(hostile)}, {there.stats()}")
    stats = there.stats()
    assert (
        stats.decode_errors
        == len(hostile)
        == len([r for r in records if "EnvelopeRejected" in repr(r)]) - (here.stats().decode_errors)
    )
    assert (stats.state, stats.links, here.state, here.stats().links) == ("live", 1, "live", 1)
    assert (stats.duplicates, stats.gaps, socket.gaps) == (0, {}, [])
    assert SECRET not in f"{records}{caplog.text}{stats}{there!r}"


def forged(origin: str, event: object = "forged", **members: Any) -> bytes:
    return encode_envelope(BackplaneEnvelope(origin, Target.user("nobody"), event, **members))


async def test_forged_jumps_are_told_as_gaps_and_the_good_ones_arrive_all_the_same(
    fleet: Fleet, bus: Bus, channel: str
) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    socket = await fleet.socket(there, "c1", TARGET)
    top = 2**64 - 1
    for number in range(200):
        await here.publish(TARGET, number)
        jumps = [forged(f"o{number}", seq=1), forged(f"o{number}", seq=top, prev=top - 1)]
        await bus.write(channel, [*jumps, forged(f"o{number}", seq=5, prev=4)])
    await settled(here, sockets=[socket])
    await until(lambda: there.stats().gaps.get("sequence") == 200, "a gap for each jump")
    assert socket.events == list(range(200))
    assert there.stats().duplicates == 200
    assert (there.state, there.stats().links, there.stats().decode_errors) == ("live", 1, 0)
    # At most one a second, merged: a storm of holes is one fact for whoever reloads.
    assert len(socket.gaps) < 200
    assert all(gap.missed is not None and gap.missed % (top - 2) == 0 for gap in socket.gaps)


async def test_more_forged_origins_than_are_remembered_cost_no_event_and_no_gap(
    fleet: Fleet, bus: Bus, channel: str
) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    socket = await fleet.socket(there, "c1", TARGET)
    assert isinstance(there, DistributedBackplane)
    tracker = tracker_of(there)
    tracker.numbers.max_numbers = 500
    for path in paths(there, channel):
        await here.publish(TARGET, "before")
        await here.flush(timeout_s=20)
        await bus.write(path, [forged(f"{path} {number}", seq=1) for number in range(2_000)])
        await here.publish(TARGET, "after")
    await settled(here, sockets=[socket])
    assert socket.events == ["before", "after"] * len(paths(there, channel))
    assert socket.gaps == []
    # The forged ones come over a connection of their own, so they may arrive last.
    await until(lambda: tracker.numbers.evicted > 500, "the forged origins push each other out")
    assert len(tracker.numbers) <= 500
    assert (there.state, there.stats().links) == ("live", 1)


async def test_a_frame_in_a_pods_own_name_is_skipped_as_its_echo_there(fleet: Fleet, bus: Bus, channel: str) -> None:
    pod, other = await fleet.pod(), await fleet.pod()
    mine, theirs = await fleet.socket(pod, "c1", TARGET), await fleet.socket(other, "c2", TARGET)
    assert isinstance(pod, DistributedBackplane)
    echoed = pod.stats().echoed
    await bus.write(channel, [frame_from(pod, b'{"User":"u1"},"event":"forged"}')])
    # The others can't tell it from the pod's own: whoever may write to the channel is trusted.
    await theirs.has(1)
    await settled(other, sockets=[mine, theirs])
    assert (mine.events, theirs.events) == ([], ["forged"])
    assert pod.stats().echoed > echoed
    assert pod.stats().decode_errors == other.stats().decode_errors == 0


async def test_beats_of_forged_pods_that_route_otherwise_are_counted_and_logged_a_thousand_times_at_most(
    fleet: Fleet, bus: Bus, channel: str, caplog: pytest.LogCaptureFixture
) -> None:
    records: list[Record] = []
    pod = await fleet.pod(observer=records.append)
    socket = await fleet.socket(pod, "c1", TARGET)
    beats = [
        frame(origin=b'"forged %d"' % number, event=b"null", seq=b"%d" % seq, routing=b'"\\n%b"' % (b"x" * 60))
        for seq in (1, 2)
        for number in range(1_500)
    ]
    await bus.write(channel, beats)
    await until(lambda: pod.stats().mismatch == 3_000, "all beats")
    await settled(pod, sockets=[socket])
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(lines) == 1_000 == len([record for record in records if isinstance(record, FleetMismatch)])
    assert max(map(len, lines)) < 500
    assert not any("\n" in line for line in lines)
    assert (pod.state, pod.stats().links, socket.events) == ("live", 1, [])


async def test_a_flood_of_distinct_targets_leaves_nothing_behind(fleet: Fleet, bus: Bus, channel: str) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    socket = await fleet.socket(there, "c1", TARGET)
    for block in range(10):
        union = [Target("k", f"{block}.{number}") for number in range(2_000)]
        await bus.write(channel, [encode_envelope(BackplaneEnvelope("o", Target.org("none"), 1, also=union))])
    await here.publish(TARGET, "good")
    await settled(here, sockets=[socket])
    assert socket.events == ["good"]
    assert there.stats().targets == 1
    assert (there.state, there.stats().links, there.stats().decode_errors) == ("live", 1, 0)
