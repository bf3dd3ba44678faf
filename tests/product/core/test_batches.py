"""How much one write carries: all that came while the link was busy, and more where publishers are faster than it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from backplane_core import DistributedBackplane, Frame, Target
from backplane_core._link.writer import BUSY_FRAMES, BUSY_TURNS
from backplane_core._local.loop_budget import UNITS
from backplane_core.testing import MemoryBroker, MemoryTransport

from tests.support.links import LinkAround

USER = Target.user("u1")


class Slow(MemoryTransport):
    """Confirms a batch some turns of the loop after it came."""

    def __init__(self, turns: int) -> None:
        super().__init__(MemoryBroker())
        self.turns = turns
        self.batches: list[int] = []

    async def open(self) -> Any:
        return SlowLink(await super().open(), self)


class SlowLink(LinkAround):
    def __init__(self, link: Any, to: Slow) -> None:
        super().__init__(link)
        self._to = to

    async def send(self, frames: Sequence[Frame]) -> None:
        self._to.batches.append(len(frames))
        for _ in range(self._to.turns):
            await asyncio.sleep(0)
        await self._link.send(frames)


@pytest.mark.parametrize("turns", [1, 2, 8])
async def test_a_publisher_that_is_faster_than_the_link_is_written_in_batches_of_many_turns(turns: int) -> None:
    transport = Slow(turns)
    async with DistributedBackplane(transport) as backplane:
        for number in range(100 * UNITS):
            await backplane.publish(USER, number)
        await backplane.flush(timeout_s=30)
    large = [size for size in transport.batches if size > BUSY_FRAMES]
    assert len(large) > 3
    assert sum(large[1:-1]) / len(large[1:-1]) > (turns + BUSY_TURNS) * UNITS


async def rounds_of_a_flush(backplane: DistributedBackplane, events: int) -> int:
    loop, rounds, handle = asyncio.get_running_loop(), 0, None

    def come_round() -> None:
        nonlocal rounds, handle
        rounds += 1
        handle = loop.call_soon(come_round)

    for number in range(events):
        backplane.publish_nowait(USER, number)
    come_round()
    await backplane.flush(timeout_s=30)
    assert handle is not None
    handle.cancel()
    return rounds


async def test_who_brings_no_more_than_a_turn_holds_waits_for_nothing() -> None:
    transport = Slow(1)
    async with DistributedBackplane(transport) as backplane:
        alone = [await rounds_of_a_flush(backplane, 1) for _ in range(5)]
        together = [await rounds_of_a_flush(backplane, BUSY_FRAMES) for _ in range(5)]
        assert together == alone
        await rounds_of_a_flush(backplane, BUSY_FRAMES + 1)
        behind = await rounds_of_a_flush(backplane, 1) - alone[-1]
        assert 0 < behind <= BUSY_TURNS, "but behind a batch of more it does"


async def test_a_backlog_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backplane_core._outbound.sender.BATCH_BYTES", 100 * 400)
    rounds: list[int] = []
    for size in (100, 400):
        transport = Slow(1)
        async with DistributedBackplane(transport) as backplane:
            for _ in range(8 * BUSY_FRAMES):
                backplane.publish_nowait(USER, "x" * size)
            rounds.append(await rounds_of_a_flush(backplane, 0) // len(transport.batches))
    assert rounds[1] <= rounds[0], "a round more for each batch, and not some turns more"
