"""Readers that are too slow: a pod whose loop is blocked, a pod that the broker cuts for it, one connection of many."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable

import pytest
from attrs import define
from backplane_core import Gap, SlowConsumerError, SyncPublisher, Target
from backplane_core.connection import Overflow
from backplane_testservers import Kind, NatsServer, ProcessBroker, RedisServer

from tests.conftest import StartServer
from tests.product.faults.ledger import Event
from tests.product.faults.rig import Rig
from tests.support.waiting import until

BLOCK_S = 2.5
BLOCK_LONG_S = 5.0
FLOOD_S = 60.0
BURST = 20
LATE_S = 0.5
PAD = "x" * 20_000  # with it a burst is less than what the broker keeps for a reader: none cuts a new link by itself
CUT = {
    "redis": re.compile(r"Client id=(\d+) .*overcoming of output buffer limits"),
    "nats": re.compile(r"cid:(\d+) .*Slow Consumer"),
}


def strict(kind: Kind) -> ProcessBroker:
    """A broker that has little patience with slow readers."""
    if kind == "redis":
        return RedisServer(extra=["client-output-buffer-limit pubsub 1mb 256kb 5"])
    return NatsServer(extra=["max_pending: 1048576", 'write_deadline: "500ms"'])


@define
class Flood:
    """A publisher with a loop of its own: it goes on while the pods' loop stands still."""

    rig: Rig
    publisher: SyncPublisher
    sent: int = 0

    def publish(self, count: int) -> None:
        """Publish so many, and return once the broker has them."""
        left = count
        while left:
            self._burst(min(BURST, left), "")
            left -= min(BURST, left)

    def publish_until(self, condition: Callable[[], bool], deadline: float) -> None:
        """Publish much until the condition holds, or that moment of the monotonic clock has come, and nothing then."""
        while not condition() and time.monotonic() < deadline:
            self._burst(BURST, PAD)

    def _burst(self, count: int, pad: str) -> None:
        on_the_way: list[Event] = []
        for _ in range(count):
            target = f"u{self.sent % self.rig.targets}"
            self.sent += 1
            on_the_way.append(self.rig.ledger.new("flood", target))
            self.publisher.publish(Target.user(target), [*on_the_way[-1], pad])
        self.publisher.flush(timeout_s=60)
        self.rig.ledger.has_left(on_the_way)


@pytest.fixture
async def flood(rig: Rig) -> AsyncIterator[Flood]:
    publisher = SyncPublisher(rig.broker.url, outbox_max_bytes=256 * 1024 * 1024, **rig.options)
    yield Flood(rig, publisher)
    await asyncio.to_thread(publisher.close)
    assert publisher.stats() is None


@pytest.fixture
def broker(request: pytest.FixtureRequest, start: StartServer) -> ProcessBroker:
    return start(strict(request.param))


def cut_clients(broker: ProcessBroker) -> set[str]:
    """Return which clients the broker has cut for being slow. It may say so twice of one, with two reasons."""
    return set(CUT[broker.kind].findall(broker.log()))


def block(seconds: float) -> None:
    """Stand still, as a host's slow query would; other threads go on."""
    time.sleep(seconds)


@pytest.mark.parametrize("broker", ["redis", "nats"], indirect=True)
async def test_a_pod_that_the_broker_cuts_for_being_slow_says_so_once_and_goes_on(
    rig: Rig, broker: ProcessBroker, flood: Flood
) -> None:
    there = await rig.pod()
    theirs = await rig.sockets(there, 5)
    await asyncio.to_thread(flood.publish, 50)
    await rig.more(0, "traffic before")
    deadline = time.monotonic() + FLOOD_S
    flooding = asyncio.create_task(asyncio.to_thread(flood.publish_until, lambda: bool(cut_clients(broker)), deadline))
    await asyncio.sleep(0)  # it begins; from here on the pod's loop stands still until the pod is cut
    while not cut_clients(broker):
        assert time.monotonic() < deadline, "the broker never cut it"
        block(0.1)
    await flooding
    await until(lambda: there.links == 2 and there.is_live, "a new link", 60)
    await asyncio.to_thread(flood.publish, 500)
    await rig.settle_after()
    rig.ledger.assert_clean()
    assert rig.ledger.missing, "what it could not take is missing"
    assert there.links == 2, "one cut, and not again"
    assert [gap.cause for gap in there.gaps] == ["reconnect"]
    assert all(len(witness.gaps) == 1 for witness in theirs)
    assert len(cut_clients(broker)) == 1


@pytest.mark.parametrize("broker", ["redis", "nats"], indirect=True)
async def test_a_loop_that_its_host_blocks_is_not_taken_for_a_dead_broker(
    rig: Rig, flood: Flood, *, long: bool
) -> None:
    proxy = rig.proxy()
    # A late line, so that a beat and a batch are always on their way when the loop stands still.
    proxy.down.delay(0.1)
    there = await rig.pod(proxy, probe_interval_s=1, beat_s=0.05)
    theirs = await rig.sockets(there, 5)
    async with rig.traffic(there, rate_per_s=200):
        await asyncio.to_thread(flood.publish, 50)
        await rig.more(5, "traffic before", *theirs)
        block(BLOCK_LONG_S if long else BLOCK_S)
        flooding = asyncio.create_task(asyncio.to_thread(flood.publish, 2_000))
        await asyncio.sleep(0.05)
        block(BLOCK_LONG_S if long else BLOCK_S)
        await flooding
        await asyncio.to_thread(flood.publish, 50)
    await rig.settle()
    rig.ledger.assert_clean()
    assert rig.ledger.missing == 0
    assert there.links == 1
    assert there.gaps == []


@pytest.mark.parametrize("broker", ["redis", "nats"], indirect=True)
@pytest.mark.parametrize("policy", ["close", "drop_oldest", "drop_newest"])
async def test_one_slow_connection_of_a_hundred_harms_no_other(rig: Rig, policy: Overflow) -> None:
    here, there = await rig.pod(), await rig.pod()
    await rig.sockets(there, 99)
    gaps: list[Gap] = []
    room, published = 20, 100
    async with there.backplane.connection(
        "slow", Target.user("u0"), max_pending=room, overflow=policy, on_gap=gaps.append
    ) as slow:
        await rig.publish(here, published * rig.targets)
        await rig.settle()
        rig.ledger.assert_clean()
        assert rig.ledger.missing == 0
        total = published + 1  # settling published once more to each target
        stats = there.backplane.stats()
        if policy == "close":
            assert stats.sink_refusals == 1
            assert [(await anext(slow)).value[2] for _ in range(room)] == list(range(room))
            with pytest.raises(SlowConsumerError):
                await anext(slow)
        else:
            assert stats.overflowed == stats.sink_refusals + (total - room if policy == "drop_oldest" else 0)
            assert stats.overflowed == total - room
            kept = range(total - room, total) if policy == "drop_oldest" else range(room)
            assert [(await anext(slow)).value[2] for _ in range(room)] == list(kept)
            await rig.publish(here, rig.targets)
            assert (await anext(slow)).value[2] == total
            assert [(gap.cause, gap.missed) for gap in gaps] == [("overflow", total - room)]
    assert there.links == 1


@pytest.mark.parametrize("broker", ["redis", "nats"], indirect=True)
@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
async def test_the_gap_of_a_full_queue_holds_the_moment_at_which_a_late_line_took_what_it_dropped(
    rig: Rig, policy: Overflow
) -> None:
    proxy = rig.proxy()
    here, there = await rig.pod(), await rig.pod(proxy)
    gaps: list[Gap] = []
    async with there.backplane.connection(
        "slow", Target.user("u0"), max_pending=2, overflow=policy, on_gap=gaps.append
    ) as slow:
        proxy.down.delay(LATE_S)
        taken: list[float] = []
        for number in range(4):
            await here.backplane.publish(Target.user("u0"), number)
            await here.backplane.flush(timeout_s=30)
            taken.append(time.time())
        await until(lambda: there.backplane.stats().overflowed == 2, "two are dropped", 30)
        arrived = time.time()
        # Those that are kept are read; the gap is among them.
        assert [(await anext(slow)).value for _ in range(2)] == ([2, 3] if policy == "drop_oldest" else [0, 1])
        await here.backplane.publish(Target.user("u0"), "behind it")
        assert (await anext(slow)).value == "behind it"
    (gap,) = gaps
    first = taken[0 if policy == "drop_oldest" else 2]
    assert arrived - first >= LATE_S / 2, "the line was late"
    assert gap.missed == 2
    assert gap.since <= first, "the broker had it by then"
    assert first <= gap.until <= arrived
