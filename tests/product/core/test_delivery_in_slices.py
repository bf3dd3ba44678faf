"""How long a batch from the bus holds the loop: counted in sinks and frames between two looks at the clock."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

from typing import Any

import pytest
from backplane_core import BackplaneEnvelope, DistributedBackplane, Frame, Target, encode_envelope
from backplane_core._inbound.reader import LOOK_EVERY, SLICE_BYTES, SLICE_SINKS
from backplane_core._local.delivery import Delivery
from backplane_core.testing import MemoryBroker, MemoryTransport

from tests.support.inside import take

SINKS = 3 * SLICE_SINKS


def frame_of(target: Target, event: Any) -> Frame:
    return "backplane", encode_envelope(BackplaneEnvelope("other", target, event, seq=1))


@pytest.mark.parametrize("event", [1, "x" * 2_000])
async def test_an_event_for_many_sinks_is_delivered_in_slices_however_small_it_is(
    event: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with DistributedBackplane(MemoryTransport(MemoryBroker())) as pod:
        for number in range(SINKS):
            await pod.attach(f"c{number}", lambda _: None, raw=True)
        slices: list[int] = []
        deliver = Delivery.deliver

        def counted(self: Delivery, entries: Any, *event: Any) -> int:
            slices.append(len(entries))
            return deliver(self, entries, *event)

        monkeypatch.setattr(Delivery, "deliver", counted)
        await take(pod, [frame_of(Target.everyone(), event)])
        assert sum(slices) == SINKS
        assert max(slices) <= SLICE_SINKS
        assert max(slices) <= 1 + SLICE_BYTES // len(str(event))


async def test_copies_alone_give_the_loop_its_turns_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async with DistributedBackplane(MemoryTransport(MemoryBroker())) as pod:
        frame = frame_of(Target.user("u1"), 1)
        await take(pod, [frame])
        turns = 0

        async def turn() -> None:
            nonlocal turns
            turns += 1

        monkeypatch.setattr(pod._receiver._reader, "_turn", turn)
        monkeypatch.setattr("backplane_core._inbound.reader.SLICE_S", -1.0)  # each look finds that it is time
        pod._receiver._reader._slice_ends = 0.0  # what the first take began is over
        await take(pod, [frame] * 10 * LOOK_EVERY)
        assert pod.stats().duplicates == 10 * LOOK_EVERY
        assert turns == 10
