"""The faulty transport: each fault does what it says, nothing is out of order on one link, and a seed repeats."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from itertools import permutations
from random import Random
from typing import Any, TypeVar

import pytest
from backplane_core import Frame, Link, Lost, TransportError
from backplane_core.testing import Faults, FaultyTransport, MemoryBroker

from tests.product.model.virtual_loop import VirtualLoop, run

T = TypeVar("T")
FRAMES: list[Frame] = [("c", b"%d" % number) for number in range(10)]


def play(main: Coroutine[Any, Any, T]) -> T:
    return run(VirtualLoop(), main)


class Listener:
    """A link that hears the channel, and what it heard until it died."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.heard: list[Any] = []
        self.died: str | None = None
        self.listening = asyncio.create_task(self._listen())

    @classmethod
    async def on(cls, transport: FaultyTransport) -> Listener:
        listener = cls(await transport.open())
        await listener.link.subscribe(["c"])
        return listener

    async def _listen(self) -> None:
        try:
            async for batch in self.link.receive():
                self.heard += [item if isinstance(item, Lost) else item[1] for item in batch]
        except TransportError as error:
            self.died = str(error)


def numbers(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, count)]


@pytest.mark.parametrize(
    ("fault", "counts"),
    [("cut_before", {0}), ("cut_within", set(range(10))), ("cut_after", {10})],
)
def test_a_cut_send_raises_with_none_some_or_all_frames_at_the_broker(fault: str, counts: set[int]) -> None:
    async def main(seed: int) -> int:
        broker = MemoryBroker()
        listener = await Listener.on(FaultyTransport(broker))
        transport = FaultyTransport(broker, faults=Faults(**{fault: 1}), random=Random(seed))
        link = await transport.open()
        with pytest.raises(TransportError, match="the connection was cut"):
            await link.send(FRAMES)
        with pytest.raises(TransportError):
            await link.send(FRAMES)
        await asyncio.sleep(10)
        assert listener.heard == numbers(len(listener.heard))
        assert broker.link_count == 1
        return len(listener.heard)

    assert {play(main(seed)) for seed in range(100)} == counts


def test_what_a_dead_link_had_on_its_way_may_come_behind_what_the_next_link_sent() -> None:
    async def main(seed: int) -> bool:
        broker = MemoryBroker()
        listener = await Listener.on(FaultyTransport(broker))
        faults = Faults(cut_within=1, straggle_s=1)
        transport = FaultyTransport(broker, faults=faults, random=Random(seed))
        with pytest.raises(TransportError):
            await (await transport.open()).send(FRAMES)
        for _ in range(3):
            await asyncio.sleep(0)  # what is at the broker is heard, and no time has passed
        first = len(listener.heard)
        transport.faults = Faults()
        await asyncio.sleep(0.5)
        await (await transport.open()).send(FRAMES)
        await asyncio.sleep(10)
        late = listener.heard[first:]
        rest, again = numbers(10, first), numbers(10)
        assert late in (rest + again, again + rest)
        return late != again + rest

    assert {play(main(seed)) for seed in range(50)} == {False, True}


def test_times_delay_and_do_not_reorder() -> None:
    async def main() -> None:
        broker = MemoryBroker()
        listener = await Listener.on(FaultyTransport(broker, faults=Faults(deliver_s=1), random=Random(1)))
        link = await FaultyTransport(broker, faults=Faults(send_s=1, confirm_s=1), random=Random(2)).open()
        before = asyncio.get_running_loop().time()
        for frame in FRAMES:
            await link.send([frame])
        assert 2 < asyncio.get_running_loop().time() - before < 20
        await asyncio.sleep(5)
        assert listener.heard == numbers(10)

    play(main())


@pytest.mark.parametrize("how", ["deafen", "silence", "half_open"])
def test_a_link_falls_deaf_unanswered_or_half_open_and_the_next_one_is_well(how: str) -> None:
    async def main() -> None:
        broker = MemoryBroker()
        other = await Listener.on(FaultyTransport(broker))
        transport = FaultyTransport(broker)
        listener = await Listener.on(transport)
        getattr(transport, how)()
        sending = asyncio.create_task(listener.link.send(FRAMES))
        await asyncio.sleep(60)
        assert listener.heard == []
        assert sending.done() is (how == "deafen")
        assert other.heard == ([] if how == "half_open" else numbers(10))
        transport.cut()
        await asyncio.wait([sending])
        again = await Listener.on(transport)
        await again.link.send(FRAMES)
        await asyncio.sleep(1)
        assert again.heard == numbers(10)
        assert listener.died

    play(main())


@pytest.mark.parametrize("reset", [0, 1])
def test_a_link_that_dies_first_brings_what_is_under_way_unless_it_is_reset(reset: int) -> None:
    async def main() -> None:
        broker = MemoryBroker()
        transport = FaultyTransport(broker, faults=Faults(deliver_s=1, reset=reset), random=Random(3))
        listener = await Listener.on(transport)
        sender = await FaultyTransport(broker).open()
        await sender.send(FRAMES)
        transport.cut()
        await sender.send(FRAMES)
        await asyncio.sleep(10)
        assert listener.heard == ([] if reset else numbers(10))
        assert listener.died == "the connection was cut"

    play(main())


def test_losses_are_told_in_their_place_and_copies_stand_side_by_side() -> None:
    async def main(faults: Faults) -> list[Any]:
        broker = MemoryBroker()
        listener = await Listener.on(FaultyTransport(broker, faults=faults, random=Random(4)))
        await (await FaultyTransport(broker).open()).send(FRAMES)
        await asyncio.sleep(1)
        return listener.heard

    heard = play(main(Faults(lose=0.5)))
    assert len(heard) == 10
    lost = [item for item in heard if isinstance(item, Lost)]
    assert 0 < len(lost) < 10
    assert {(item.channel, item.missed) for item in lost} == {("c", 1)}
    assert all(isinstance(item, Lost) or item == number for item, number in zip(heard, numbers(10), strict=True))
    heard = play(main(Faults(copy=0.5)))
    assert sorted(heard) == heard
    assert 10 < len(heard) < 20


def test_doors_are_closed_and_confirmations_hang() -> None:
    async def use(transport: FaultyTransport) -> None:
        link = await transport.open()
        await link.subscribe(["c"])
        await link.send(FRAMES)

    async def main() -> None:
        broker = MemoryBroker()
        transport = FaultyTransport(broker, faults=Faults(refuse_open=1))
        with pytest.raises(TransportError, match="refuses"):
            await transport.open()
        for faults in (Faults(hang_open=1), Faults(hang_subscribe=1), Faults(hang_confirm=1)):
            transport.faults = faults
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(use(transport), 100)
        transport.faults = Faults(cut_subscribe=1)
        with pytest.raises(TransportError, match="subscri"):
            await (await transport.open()).subscribe(["c"])

    play(main())


@pytest.mark.parametrize("nodes", [0, 2])
def test_the_channels_of_one_call_are_heard_one_by_one_or_node_by_node_and_in_any_order(nodes: int) -> None:
    async def main(seed: int) -> tuple[str, ...]:
        broker = MemoryBroker()
        faults = Faults(scatter_s=1, nodes=nodes)
        link = await FaultyTransport(broker, faults=faults, random=Random(seed)).open()
        asking = asyncio.create_task(link.subscribe(["a", "b", "c"]))
        heard: list[str] = []
        while not asking.done():
            await asyncio.sleep(0.001)
            heard += sorted(broker.channels - {*heard})
        await asking
        return tuple(heard)

    orders = {play(main(seed)) for seed in range(60)}
    # Of two nodes one has "a" and "c".
    assert orders == ({("b", "a", "c"), ("a", "c", "b")} if nodes else {*permutations("abc")})
