"""Interest in very many targets: the broker is asked in batches, the loop has its turns, and the order holds."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
from backplane_core import DistributedBackplane, Link, Target
from backplane_core._link.subscriber import SUBSCRIBE_BATCH
from backplane_core.testing import MemoryTransport
from backplane_core.testing.memory import MemoryLink

from tests.support.fleets import MemoryFleet
from tests.support.inside import confirm
from tests.support.sockets import Socket
from tests.support.waiting import until

MANY = 100_000


class CountedLink(MemoryLink):
    """Notes what it is asked for; hears it and answers at once, without a turn of the loop, unless it is held."""

    asked: list[Sequence[str]]
    heard: asyncio.Event
    answered: asyncio.Event

    async def subscribe(self, channels: Sequence[str]) -> None:
        self.asked.append(channels)
        await self.heard.wait()
        for channel in channels:
            self._subscribers.subscribe(self, channel)
        await self.answered.wait()

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        self.asked.append(channels)
        for channel in channels:
            self._subscribers.unsubscribe(self, channel)


class CountedTransport(MemoryTransport):
    """Its links share what they are asked for."""

    def __init__(self, fleet: MemoryFleet) -> None:
        super().__init__(fleet.broker)
        self.asked: list[Sequence[str]] = []
        self.heard, self.answered = asyncio.Event(), asyncio.Event()
        self.heard.set()
        self.answered.set()

    async def open(self) -> Link:
        link = await super().open()
        assert isinstance(link, MemoryLink)
        link.__class__ = CountedLink
        assert isinstance(link, CountedLink)
        link.asked, link.heard, link.answered = self.asked, self.heard, self.answered
        return link

    @property
    def channels(self) -> int:
        """In how many channels all commands come to."""
        return sum(map(len, self.asked))


async def turns_until(condition: Callable[[], bool]) -> None:
    """Return in the very turn of the loop in which the condition holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 -- a millisecond later it may be over
            await asyncio.sleep(0)


def ignore(_: Any) -> None:
    pass


def rooms(count: int) -> list[Target]:
    return [Target("room", str(number)) for number in range(count)]


@pytest.fixture
def routing() -> str:
    return "interest"


@pytest.fixture
def transport(fleet: MemoryFleet) -> CountedTransport:
    return CountedTransport(fleet)


@pytest.fixture
async def pod(fleet: MemoryFleet, transport: CountedTransport) -> DistributedBackplane:
    return await fleet.pod(transport)


@pytest.mark.parametrize(("at_once", "commands"), [(2, 1), (512, 1), (513, 2), (2_000, 4)])
async def test_what_is_associated_at_once_shares_one_round_trip(
    pod: DistributedBackplane, transport: CountedTransport, at_once: int, commands: int
) -> None:
    await pod.attach("c1", ignore)
    transport.asked.clear()
    assert all(await asyncio.gather(*[pod.associate("c1", room) for room in rooms(at_once)]))
    assert (len(transport.asked), transport.channels) == (commands, at_once)


async def test_what_is_associated_a_turn_of_the_loop_later_shares_it_too(
    pod: DistributedBackplane, transport: CountedTransport
) -> None:
    async def associate(room: Target, turns: int) -> bool:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await pod.associate("c1", room)

    await pod.attach("c1", ignore)
    transport.asked.clear()
    assert all(await asyncio.gather(*[associate(room, number % 2) for number, room in enumerate(rooms(100))]))
    assert (len(transport.asked), transport.channels) == (1, 100)


async def test_connections_that_come_and_go_share_their_commands(
    pod: DistributedBackplane, transport: CountedTransport
) -> None:
    numbers = iter(range(2_000))

    async def come_and_go() -> None:
        for number in numbers:
            await pod.attach(f"c{number}", ignore)
            await asyncio.gather(*[pod.associate(f"c{number}", Target("room", f"{number}-{part}")) for part in "abc"])
            await pod.detach(f"c{number}")

    transport.asked.clear()
    await asyncio.gather(*[come_and_go() for _ in range(200)])
    edges = 2_000 * 4 * 2
    assert 2_000 * 4 <= transport.channels <= edges
    assert len(transport.asked) <= edges / 100


async def test_a_reloaded_page_asks_the_broker_for_nothing_but_its_new_id(
    fleet: MemoryFleet, pod: DistributedBackplane, transport: CountedTransport
) -> None:
    user = Target.user("u1")
    await pod.attach("c1", ignore)
    assert await pod.associate("c1", user)
    transport.asked.clear()
    await pod.detach("c1")
    await asyncio.sleep(0.01)  # the detachment was looked at
    await pod.attach("c2", ignore)
    assert await pod.associate("c2", user), "confirmed all the time"
    assert transport.asked == [["backplane:@connection:c2"]]
    await until(lambda: fleet.broker.subscriber_count("backplane:@connection:c1") == 0, "the old id is left")
    assert fleet.broker.subscriber_count("backplane:@user:u1") == 1
    assert transport.asked[1:] == [["backplane:@connection:c1"]]


async def test_a_target_that_nobody_comes_back_for_is_left_without_any_other_change(
    fleet: MemoryFleet, pod: DistributedBackplane
) -> None:
    await pod.attach("c1", ignore)
    await pod.associate("c1", Target.user("u1"))
    await pod.detach("c1")
    await until(lambda: fleet.broker.channels == frozenset({"backplane"}), "only the base channel is heard")


@pytest.mark.thorough
async def test_after_a_reconnect_all_are_heard_again_and_the_loop_had_its_turns(
    fleet: MemoryFleet, pod: DistributedBackplane, transport: CountedTransport
) -> None:
    here, socket, targets = await fleet.pod(), Socket("c1"), rooms(MANY)
    await pod.attach("c1", socket.stream.append)
    for target in targets:
        pod._registry.associate("c1", target)
    assert await confirm(pod, targets)
    transport.asked.clear()
    fleet.broker.drop_links()
    await pod.wait_for_state("degraded", timeout_s=10)
    most = before = 0
    while pod.state != "live":
        await asyncio.sleep(0)
        most, before = max(most, transport.channels - before), transport.channels
    assert most == SUBSCRIBE_BATCH
    assert len(transport.asked) == -(-(MANY + 2) // SUBSCRIBE_BATCH)
    assert await confirm(pod, targets)
    await here.wait_for_state("live", timeout_s=10)
    for target in targets[::50]:
        await here.publish(target, target.id)
    assert await socket.has(MANY // 50) == [target.id for target in targets[::50]]


@pytest.mark.parametrize("ends", ["with its first frame", "when it is live"])
async def test_each_connection_hears_of_the_gap_before_anything_newer_though_the_telling_takes_its_time(
    fleet: MemoryFleet,
    pod: DistributedBackplane,
    transport: CountedTransport,
    monkeypatch: pytest.MonkeyPatch,
    ends: str,
) -> None:
    here = await fleet.pod()
    sockets = [await fleet.socket(pod, f"c{number}", Target.org("acme")) for number in range(50)]
    monkeypatch.setattr("backplane_core._inbound.slices.SLICE_ENTRIES", 1)
    monkeypatch.setattr("backplane_core._inbound.slices.SLICE_S", 0.0)
    held = transport.answered if ends == "with its first frame" else transport.heard
    held.clear()
    transport.asked.clear()
    fleet.broker.drop_links()
    await here.wait_for_state("degraded", timeout_s=10)
    await here.wait_for_state("live", timeout_s=10)
    await until(lambda: bool(transport.asked), "the subscriptions are on their way")
    await here.flush(timeout_s=10)  # its beat would be a first frame
    if held is transport.heard:
        held.set()
    else:
        here.publish_nowait(Target.org("acme"), "the first frame")
    await turns_until(lambda: bool(sockets[0].gaps))
    while_telling = 0
    for number in range(10_000):
        told = sum([bool(socket.gaps) for socket in sockets])
        while_telling += 0 < told < len(sockets)
        here.publish_nowait(Target.org("acme"), number)
        await asyncio.sleep(0)
        if all(socket.events for socket in sockets):
            break
    if held is transport.answered:
        assert pod.state != "live"
    assert while_telling, "something was published while some knew of the gap and some did not"
    for socket in sockets:
        assert socket.stream[0] is socket.gaps[0]
    held.set()
    await pod.wait_for_state("live", timeout_s=10)


async def test_a_link_that_dies_while_a_gap_is_told_leaves_nobody_untold(
    fleet: MemoryFleet, pod: DistributedBackplane, monkeypatch: pytest.MonkeyPatch
) -> None:
    sockets = [await fleet.socket(pod, f"c{number}") for number in range(50)]
    monkeypatch.setattr("backplane_core._inbound.slices.SLICE_ENTRIES", 1)
    monkeypatch.setattr("backplane_core._inbound.slices.SLICE_S", 0.0)
    fleet.broker.drop_links()
    await turns_until(lambda: bool(sockets[0].gaps))
    assert not sockets[-1].gaps
    fleet.broker.cut()
    await until(lambda: all(socket.gaps for socket in sockets), "all are told, while the broker is away")
    assert pod.state in {"live", "degraded"}
    fleet.broker.restore()


@pytest.mark.thorough
async def test_a_subscription_takes_little_memory_beside_its_connection(fleet: MemoryFleet) -> None:
    taken: list[int] = []
    targets = rooms(5_000)
    tracemalloc.start()
    try:
        for routing in ("broadcast", "interest"):
            async with AsyncExitStack() as stack:
                pod = await stack.enter_async_context(fleet.make(routing=routing))
                await pod.attach("c1", ignore)
                gc.collect()
                before = tracemalloc.get_traced_memory()[0]
                await asyncio.gather(*[pod.associate("c1", target) for target in targets])
                gc.collect()
                taken.append(tracemalloc.get_traced_memory()[0] - before)
    finally:
        tracemalloc.stop()
    # The broker in memory is part of it. Measured: some 1,000 bytes.
    assert taken[1] - taken[0] <= 2_048 * len(targets)
