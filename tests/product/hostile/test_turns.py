"""However much garbage comes at once, the loop has its turns: counted in frames, each of which costs a known time."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, cast

import pytest
from attrs import evolve
from backplane_core import DistributedBackplane, Frame
from backplane_core._inbound.reader import LOOK_EVERY, SLICE_S
from backplane_core._protocol.heard_numbers import SWEEP
from backplane_core._protocol.sequence import Tracker
from backplane_core._runtime.system import System
from backplane_core.testing import MemoryTransport

FRAMES = 20_000
COST_S = 0.000_01
"""What a frame costs on the clock of these tests."""
SHORT = int(SLICE_S / COST_S / 2)
MOST = SLICE_S / COST_S + LOOK_EVERY + 1


class Timed(DistributedBackplane):
    """A pod whose clock shows the work that was done."""

    def _make_system(self) -> System:
        self.now = 1_000.0
        return evolve(super()._make_system(), monotonic=lambda: self.now)


def costly(pod: Timed, frames: Iterable[Frame]) -> Iterator[Frame]:
    for frame in frames:
        pod.now += COST_S
        yield frame


def junk(channel: str) -> Iterator[Frame]:
    return ((channel, b"x") for _ in range(FRAMES))


def signed_junk(channel: str) -> Iterator[Frame]:
    frame = b"backplane-signed-1 %b 1764000000 %b\n{}" % (b"0" * 16, b"0" * 64)
    return ((channel, frame) for _ in range(FRAMES))


def origins(channel: str) -> Iterator[Frame]:
    return ((channel, b'{"origin":"o%d","target":{"User":"u"},"event":1,"seq":1}' % number) for number in range(FRAMES))


def holes(channel: str) -> Iterator[Frame]:
    return (
        (channel, b'{"origin":"o","target":{"User":"u"},"event":1,"seq":%d,"prev":%d}' % (number, number - 1))
        for number in range(2, 2 * FRAMES + 2, 2)
    )


@pytest.mark.parametrize("keys", [[], ["k" * 32]], ids=["plain", "signed"])
@pytest.mark.parametrize("flood", [junk, signed_junk, origins, holes])
async def test_a_flood_gives_the_loop_its_turns(flood: Any, keys: list[str]) -> None:
    taken = 0

    def count(frames: Iterator[Frame]) -> Iterator[Frame]:
        nonlocal taken
        for frame in frames:
            taken += 1
            yield frame

    async with Timed(MemoryTransport(), signing_keys=keys or None) as pod:
        for number in range(500):
            await pod.attach(f"c{number}", print, on_gap=lambda _: None)
        batch: Any = count(costly(pod, flood("backplane")))
        reading = asyncio.create_task(pod._receiver.take(batch))
        most = before = 0
        while not reading.done():
            await asyncio.sleep(0)
            most, before = max(most, taken - before), taken
        await reading
        assert taken == FRAMES
        assert most <= MOST


async def test_batches_that_follow_each_other_give_the_loop_its_turns_as_one_does() -> None:
    """Each of them is shorter than a slice: a reader that began another with each would hold the loop for all."""
    taken = 0
    async with Timed(MemoryTransport()) as pod:

        async def read() -> None:
            nonlocal taken
            frames = junk("backplane")
            while batch := [*islice(frames, SHORT)]:
                await pod._receiver.take(cast("Any", costly(pod, batch)))
                taken += len(batch)

        reading = asyncio.create_task(read())
        most = before = 0
        while not reading.done():
            await asyncio.sleep(0)
            most, before = max(most, taken - before), taken
        await reading
        assert taken == FRAMES
        assert most <= MOST + SHORT


def test_sixty_five_thousand_origins_that_expire_at_once_go_in_slices() -> None:
    tracker = Tracker(ttl_s=300)
    for number in range(65_000):
        tracker.accept("c", f"o{number}", 1, None)
    left = len(tracker.numbers)
    while left:
        tracker.expire(10_000)
        assert left - len(tracker.numbers) <= SWEEP
        left = len(tracker.numbers)
