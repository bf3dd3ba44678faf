"""A pod that refuses everything it hears is as deaf as one without a link: it says so, why, and what to do."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from attrs import evolve
from backplane_core import DistributedBackplane, Gap, Target
from backplane_core._inbound.refusals import Refusals
from backplane_core._protocol.signing import Signer, SigningKeys
from backplane_core._runtime.system import System
from backplane_core.testing import MemoryTransport

from tests.support.fleets import MemoryFleet
from tests.support.inside import channel_of
from tests.support.sockets import Socket
from tests.support.waiting import until

USER = Target.user("u1")
KEY, OTHER_KEY = "k" * 32, "o" * 32
QUICK: dict[str, Any] = {"probe_interval_s": 0.5, "beat_s": 0.05, "origin_ttl_s": 60}
FRAME = b'{"origin":"o","target":{"User":"u"},"event":1}'


class Skewed(DistributedBackplane):
    """A pod whose clock can be wrong."""

    def _make_system(self) -> System:
        self.skew_s = 0.0
        system = super()._make_system()
        return evolve(system, wall=lambda: system.wall() + self.skew_s)


@pytest.fixture(params=["broadcast", "interest"])
def fleet(request: pytest.FixtureRequest) -> MemoryFleet:
    return MemoryFleet(request.param)


async def pod(fleet: MemoryFleet, *keys: str, skew_s: float = 0.0, **options: Any) -> Skewed:
    chosen: dict[str, Any] = {**QUICK, "routing": fleet.routing, "signing_keys": list(keys) or None, **options}
    made = Skewed(MemoryTransport(fleet.broker), **chosen)
    made.skew_s = skew_s
    return await fleet.stack.enter_async_context(made)


@asynccontextmanager
async def traffic(*pods: DistributedBackplane) -> AsyncGenerator[None]:
    """Publish on each, steadily, while the block runs."""

    async def stream() -> None:
        number = 0
        while True:
            for sender in pods:
                await sender.publish(USER, number)
            number += 1
            await asyncio.sleep(0.01)

    task = asyncio.create_task(stream())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def refused(here: DistributedBackplane, socket: Socket, advice: str) -> Gap:
    """Return the gap that is still open, once the pod knows."""
    await until(lambda: not here.ready(), "the pod knows that it is deaf")
    readiness = here.ready()
    assert here.state == "live"
    assert readiness.reason is not None
    assert "everything that other pods send is refused" in readiness.reason
    assert advice in readiness.reason
    assert readiness.deaf_since is not None
    await until(lambda: any(gap.is_open for gap in socket.gaps), "the gap")
    gap = next(gap for gap in socket.gaps if gap.is_open)
    assert advice in gap.reason
    assert gap.since >= readiness.deaf_since - 0.01, "a connection that came later has missed less"
    return gap


@pytest.mark.parametrize(
    ("here_keys", "there_keys", "skew_s", "advice"),
    [
        ([KEY], [KEY], -600.0, "set them by NTP"),
        ([KEY], [KEY], 600.0, "set them by NTP"),
        ([KEY], [OTHER_KEY], 0.0, "add that to its signing_keys"),
        ([KEY], [], 0.0, "give all pods the same ones"),
        ([], [KEY], 0.0, "give it those of the fleet"),
    ],
    ids=["a slow clock", "a fast clock", "another key", "no key there", "no key here"],
)
async def test_a_pod_that_refuses_everything_is_deaf_and_says_what_to_do(
    fleet: MemoryFleet, here_keys: list[str], there_keys: list[str], skew_s: float, advice: str
) -> None:
    async with fleet.stack:
        here, there = await pod(fleet, *here_keys, skew_s=skew_s), await pod(fleet, *there_keys)
        socket = await fleet.socket(here, "h", USER)
        async with traffic(there):
            await refused(here, socket, advice)
        assert socket.events == []


async def test_the_gap_ends_before_the_first_event_that_is_accepted_again(fleet: MemoryFleet) -> None:
    async with fleet.stack:
        here, there = await pod(fleet, KEY), await pod(fleet, KEY)
        socket, quiet = await fleet.socket(here, "h", USER), await fleet.socket(here, "q", Target.user("q"))
        await there.publish(USER, "before")
        await socket.has(1)
        here.skew_s = -600.0
        async with traffic(there):
            opened = await refused(here, socket, "set them by NTP")
            assert await here.associate("q", Target.user("late")) is False, "it is not heard yet"
            here.skew_s = 0.0
            await until(lambda: len(socket.events) > 3, "events again")
            await until(lambda: bool(here.ready()), "ready again")
            await until(lambda: any(not gap.is_open for gap in quiet.gaps), "everybody hears of the end")
        first = next(number for number, item in enumerate(socket.stream) if item != "before" and type(item) is int)
        reported = [item for item in socket.stream[:first] if isinstance(item, Gap)]
        assert reported, "a gap stands before the first event"
        start = socket.gaps.index(opened)
        await until(lambda: any(not gap.is_open for gap in socket.gaps[start:]), "it hears of the end")
        final = [gap for gap in socket.gaps[start:] if not gap.is_open]
        assert len(final) == 1, "no hole besides"
        assert final[0].since <= opened.since + 600 + 0.1, "its clock was slow then"
        assert await here.associate("q", Target.user("later"))


async def test_a_pod_that_refuses_everything_still_does_on_its_next_link(fleet: MemoryFleet) -> None:
    async with fleet.stack:
        here, there = await pod(fleet, KEY, skew_s=-600.0), await pod(fleet, KEY)
        socket = await fleet.socket(here, "h", USER)
        async with traffic(there):
            await refused(here, socket, "set them by NTP")
            links = here.stats().links
            fleet.broker.drop_links()
            await until(lambda: here.stats().links > links and here.state == "live", "another link")
            assert not here.ready()
            assert "set them by NTP" in (here.ready().reason or "")
            here.skew_s = 0.0
            await until(lambda: bool(here.ready()), "ready again")
            await until(lambda: bool(socket.events), "events")
        await until(lambda: any(not gap.is_open for gap in socket.gaps), "the end of the gap")


async def test_one_bad_sender_among_good_ones_is_counted_and_logged_once_and_no_alarm(
    fleet: MemoryFleet, caplog: pytest.LogCaptureFixture
) -> None:
    async with fleet.stack:
        here, good, bad = await pod(fleet, KEY), await pod(fleet, KEY), await pod(fleet, OTHER_KEY)
        socket = await fleet.socket(here, "h", USER)
        with caplog.at_level(logging.WARNING, "backplane"):
            async with traffic(bad):
                await until(lambda: here.stats().signature_errors > 150, "far more than it takes", 60)
        assert here.ready()
        assert good.ready()
        assert socket.gaps == []
        for port in (here, good):
            assert port.stats().signature_errors > 0
        lines = [record for record in caplog.records if "frames of another pod are refused" in record.message]
        assert len(lines) == 3, "each of the three pods says it once"


async def lose(here: DistributedBackplane, bad: Skewed, good: DistributedBackplane, socket: Socket) -> float:
    """Have a pod publish while its clock is wrong; return when, once another pod's events have passed it by."""
    bad.skew_s = -600.0
    at, refused, beats = time.time(), here.stats().signature_errors, here.stats().beats
    await bad.publish(USER, "refused")
    await until(lambda: here.stats().signature_errors > refused, "it is refused")
    await good.publish(USER, "taken")
    await until(lambda: here.stats().beats > beats + 2, "all before is proven to be read")
    assert "refused" not in socket.events
    assert here.ready()
    bad.skew_s = 0.0
    return at


def is_covered(socket: Socket, at: float) -> Callable[[], bool]:
    return lambda: any(gap.since - 0.02 <= at <= gap.until for gap in socket.gaps)


async def test_what_was_refused_before_the_link_was_replaced_is_in_a_gap_that_begins_before_it(
    fleet: MemoryFleet,
) -> None:
    async with fleet.stack:
        here, good, bad = await pod(fleet, KEY), await pod(fleet, KEY), await pod(fleet, KEY)
        socket = await fleet.socket(here, "h", USER)
        await bad.publish(USER, "before")
        await socket.has(1)
        at = await lose(here, bad, good, socket)
        links = here.stats().links
        fleet.broker.drop_links()
        await until(lambda: here.stats().links > links and here.state == "live", "another link")
        await bad.publish(USER, "after")
        await until(lambda: "after" in socket.events, "its sender is accepted again")
        await until(is_covered(socket, at), "a gap from before it was refused")


async def test_what_was_refused_before_a_senders_first_frame_is_in_a_gap(fleet: MemoryFleet) -> None:
    async with fleet.stack:
        here, good = await pod(fleet, KEY), await pod(fleet, KEY)
        socket = await fleet.socket(here, "h", USER)
        bad = await pod(fleet, KEY, skew_s=-600.0)
        at = await lose(here, bad, good, socket)
        await bad.publish(USER, "after")
        await until(lambda: "after" in socket.events, "its sender is accepted")
        await until(is_covered(socket, at), "a gap from before it was refused")
        assert any("were refused" in gap.reason and gap.missed is None for gap in socket.gaps)


@pytest.mark.parametrize("is_known", [True, False], ids=["a known sender", "a new sender"])
async def test_what_was_refused_is_in_a_gap_though_nothing_follows(fleet: MemoryFleet, *, is_known: bool) -> None:
    async with fleet.stack:
        here, bad = await pod(fleet, KEY), await pod(fleet, KEY)
        socket = await fleet.socket(here, "h", USER)
        await until(lambda: here.stats().received > 0, "its beats are heard")
        await pod(fleet, KEY)  # whose beats are accepted throughout
        if is_known:
            await bad.publish(USER, "before")
            await socket.has(1)
        bad.skew_s, at = 2_000.0, time.time()
        for _ in range(3):
            await bad.publish(USER, "refused")
        await bad.aclose()
        await until(lambda: here.stats().signature_errors >= 3, "they are refused")
        await until(is_covered(socket, at), "a gap")
        if is_known:
            await until(lambda: sum(gap.missed or 0 for gap in socket.gaps) == 3, "its numbers say how many")
        assert "set them by NTP" in socket.gaps[0].reason


async def test_a_frame_that_somebody_sends_again_later_is_no_gap(fleet: MemoryFleet) -> None:
    async with fleet.stack:
        here, there = await pod(fleet, KEY), await pod(fleet, KEY)
        socket = await fleet.socket(here, "h", USER)
        wiretap = fleet.broker.open()
        await wiretap.subscribe([channel_of(there, USER)])
        heard = aiter(wiretap.receive())
        await there.publish(USER, 1)
        await socket.has(1)
        frames = [frame for frame in await anext(heard) if type(frame) is tuple]
        await wiretap.aclose()
        assert frames
        here.skew_s = 2_000.0
        for frame in frames * 3:
            fleet.broker.publish(frame)
        await until(lambda: here.stats().signature_errors >= 3 * len(frames), "they are refused")
        await asyncio.sleep(0.05)
        assert socket.gaps == []
        assert socket.events == [1]


async def test_it_ends_when_nobody_is_refused_any_longer(fleet: MemoryFleet) -> None:
    async with fleet.stack:
        here, there = await pod(fleet, KEY), await pod(fleet, OTHER_KEY)
        socket = await fleet.socket(here, "h", USER)
        async with traffic(there):
            await refused(here, socket, "add that to its signing_keys")
        await there.aclose()
        await until(lambda: bool(here.ready()), "nobody is there whom it could miss")


def forged() -> bytes:
    """Return a frame that says to be of the fleet, and was altered."""
    frame = FRAME.replace(b'"o"', b'"forged"')
    payload = Signer(SigningKeys([KEY]), 300, System()).sign("backplane", frame)
    return payload.replace(b"forged", b"FORGED")


NOISE: dict[str, tuple[list[str], bytes]] = {
    "garbage": ([KEY], b"x" * 100),
    "an altered frame": ([KEY], forged()),
    "a head that is cut": ([KEY], forged()[:60]),
    "garbage where nobody signs": ([], b"x" * 100),
    "half a frame": ([], FRAME[:30]),
    "a frame without a target": ([], b'{"origin":"o","event":1,"seq":1}'),
    "a frame with a wrong number": ([], FRAME[:-1] + b',"seq":-7}'),
}


@pytest.mark.parametrize(("keys", "noise"), NOISE.values(), ids=NOISE)
async def test_noise_takes_no_pod_out_of_service_though_it_is_alone(
    fleet: MemoryFleet, keys: list[str], noise: bytes
) -> None:
    async with fleet.stack:
        here = await pod(fleet, *keys)
        socket = await fleet.socket(here, "h", USER)
        for _ in range(40):
            fleet.broker.publish(("backplane", noise))
            await asyncio.sleep(0.04)
        assert here.stats().signature_errors + here.stats().decode_errors == 40
        assert here.ready()
        assert socket.gaps == []


@pytest.mark.parametrize(("keys", "noise"), NOISE.values(), ids=NOISE)
async def test_a_pod_that_starts_after_noise_has_no_hole_before_its_first_event(
    fleet: MemoryFleet, keys: list[str], noise: bytes
) -> None:
    """Its first frame here is not its first on the bus: it follows on one that was published before this pod came."""
    async with fleet.stack:
        there = await pod(fleet, *keys)
        await there.publish(USER, "before")
        here = await pod(fleet, *keys)
        socket = await fleet.socket(here, "h", USER)
        fleet.broker.publish((channel_of(here, USER), noise))
        await until(lambda: here.stats().signature_errors + here.stats().decode_errors > 0, "it is refused")
        await there.publish(USER, "after")
        await until(lambda: "after" in socket.events, "the event")
        assert socket.gaps == []


async def test_an_event_that_was_refused_for_its_size_is_one_hole_and_none_before_others(fleet: MemoryFleet) -> None:
    async with fleet.stack:
        there, other = await pod(fleet), await pod(fleet)
        await other.publish(USER, "before")
        here = await pod(fleet, max_event_bytes=1024)
        socket = await fleet.socket(here, "h", USER)
        await there.publish(USER, "x" * 2_000)
        await until(lambda: bool(socket.gaps), "its gap")
        await other.publish(USER, "after")
        await until(lambda: "after" in socket.events, "the event")
        assert [gap.missed for gap in socket.gaps] == [1]


async def test_a_frame_too_large_to_be_verified_is_a_gap_at_once(fleet: MemoryFleet) -> None:
    async with fleet.stack:
        here = await pod(fleet, KEY, max_event_bytes=1024)
        there = await pod(fleet, KEY, max_event_bytes=1 << 21)
        socket = await fleet.socket(here, "h", USER)
        await there.publish(USER, "x" * 1_100_000)
        await until(lambda: bool(socket.gaps), "the gap")
        assert "too large for this pod" in socket.gaps[0].reason
        await there.publish(USER, 1)
        await socket.has(1)
        assert here.ready()


def test_refusals_alone_decide_and_only_after_a_while() -> None:
    refusals = Refusals(30.0)
    assert refusals.note(FRAME, "an event of 12 bytes")
    assert not refusals.note(FRAME, "an event of 34 bytes"), "the same reason"
    assert refusals.judge(10.0, 9.0, accepted=False) == "as before"
    refusals.note(FRAME, "why")
    assert refusals.judge(39.9, 30.0, accepted=False) == "as before"
    assert refusals.judge(50.0, 45.0, accepted=False) == "as before", "nothing was refused now"
    refusals.note(FRAME, "why")
    assert refusals.judge(51.0, 45.0, accepted=False) == "refuses all"
    assert refusals.since == 9.0
    assert refusals.judge(60.0, 45.0, accepted=False) == "as before"
    assert refusals.is_deaf
    assert refusals.judge(81.1, 45.0, accepted=False) == "accepts again", "nothing was refused for as long"
    assert not refusals.is_open


def test_refusals_that_nothing_follows_are_a_gap_once_the_time_is_over() -> None:
    refusals = Refusals(patience_s=10.0)
    refusals.note(FRAME, "too old")
    assert refusals.judge(100.0, 99.0, accepted=False) == "as before"
    assert refusals.judge(110.0, 109.0, accepted=False) == "as before"
    assert refusals.judge(110.1, 109.0, accepted=False) == "refuses all"
    assert refusals.since == 99.0
    assert refusals.judge(110.2, 110.1, accepted=False) == "accepts again"
    assert not refusals.is_open


def test_refusals_that_accepted_frames_follow_are_none() -> None:
    refusals = Refusals(patience_s=10.0)
    refusals.note(FRAME, "too old")
    refusals.judge(100.0, 99.0, accepted=False)
    assert refusals.judge(101.0, 100.0, accepted=True) == "as before"
    assert refusals.judge(120.0, 119.0, accepted=False) == "as before"


def test_one_frame_that_is_accepted_starts_the_wait_again() -> None:
    refusals = Refusals(30.0)
    for now in range(10, 1_000, 10):
        refusals.note(FRAME, "why")
        assert refusals.judge(now, now, accepted=now % 30 == 0) == "as before"


@pytest.mark.parametrize("payload", [b"", b"x" * 100, json.dumps({"event": 1, "x": "origin"}).encode()])
def test_what_no_pod_writes_is_not_noted(payload: bytes) -> None:
    refusals = Refusals(30.0)
    assert not refusals.note(payload, "why")
    assert not refusals.is_open


@pytest.mark.parametrize("cause", ["sequence", "overflow"])
def test_a_hole_that_comes_behind_an_open_gap_does_not_end_it(cause: Any) -> None:
    deaf = Gap(channel="backplane", cause="reconnect", reason="still deaf", since=1.0, until=2.0, is_open=True)
    hole = Gap(channel="backplane", cause=cause, reason="a hole", since=1.5, until=1.6, missed=1)
    end = Gap(channel="backplane", cause="reconnect", reason="live again", since=1.0, until=4.0)
    assert deaf.merge(hole).is_open
    assert hole.merge(deaf).is_open
    assert not deaf.merge(hole).merge(end).is_open
