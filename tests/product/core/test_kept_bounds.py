"""What must hold at the edges of a pod: with full queues and tiny ones, in a child or another thread, in a drain."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from backplane_core import (
    ClosedError,
    DistributedBackplane,
    EventDropped,
    InMemoryBackplane,
    Target,
    WrongLoopError,
)
from backplane_core._outbound.outbox import Outbox
from backplane_core._outbound.sender import Sender
from backplane_core._protocol.heartbeat import Heartbeat
from backplane_core._protocol.own_frames import OwnFrames
from backplane_core._protocol.peers import Peers
from backplane_core._protocol.routing import make_routing
from backplane_core._runtime.reporter import Reporter
from backplane_core._runtime.system import System
from backplane_core.options import Settings
from backplane_core.testing import MemoryBroker, MemoryTransport

from tests.support.fleets import MemoryFleet
from tests.support.inside import channel_of
from tests.support.waiting import until

USER = Target.user("u1")


def frame(size: int) -> tuple[str, bytes]:
    return ("c", b"x" * size)


# A connection's id


async def test_a_connection_that_takes_an_id_over_gets_nothing_that_was_meant_for_the_one_before() -> None:
    async with InMemoryBackplane() as backplane, backplane.connection("c1", Target.user("first")) as first:
        async with backplane.connection("c1", Target.user("second")) as second:
            assert await backplane.publish(Target.user("first"), "for the first user alone") == 0
            assert await backplane.publish(Target.user("second"), "for the second") == 1
            assert backplane.targets_of("c1") == {Target.user("second")}
            assert (await anext(second)).value == "for the second"
        with pytest.raises(StopAsyncIteration):
            await anext(first)


# Draining


@pytest.mark.parametrize("overflow", ["close", "drop_oldest", "drop_newest"])
async def test_a_drained_connection_ends_behind_what_was_queued_though_traffic_goes_on(
    fleet: MemoryFleet, overflow: Any
) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    async with there.connection("c1", USER, overflow=overflow) as connection:
        for number in range(3):
            await here.publish(USER, number)
        await until(lambda: connection.pending == 3, "three are queued")
        await there.drain(timeout_s=5)
        for number in range(50):
            await here.publish(USER, f"late {number}")
        await here.flush(timeout_s=5)
        assert [event.value async for event in connection] == [0, 1, 2]


# Sinks


@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit])
async def test_a_sink_that_raises_cancels_nobody_who_publishes(error: type[BaseException]) -> None:
    got: list[object] = []

    def bad(_: object) -> None:
        raise error

    async with InMemoryBackplane() as backplane:
        await backplane.attach("bad", bad)
        await backplane.attach("good", got.append)
        task = asyncio.current_task()
        assert task is not None
        assert await backplane.publish(Target.everyone(), "one") == 1
        assert not task.cancelling()
        assert backplane.stats().sink_errors == 1
    assert got == ["one"]


# Order


@pytest.mark.parametrize("outbox_overflow", ["drop_newest", "drop_oldest"])
async def test_an_observer_that_publishes_does_not_turn_the_order_round(
    fleet: MemoryFleet, outbox_overflow: Any
) -> None:
    got: list[object] = []

    def observe(record: object) -> None:
        if isinstance(record, EventDropped) and "an alarm" not in got:
            pod.publish_nowait(USER, "an alarm")

    pod = await fleet.pod(outbox_max_messages=1, outbox_overflow=outbox_overflow, observer=observe)
    await pod.attach("c1", got.append)
    await pod.associate("c1", USER)
    fleet.broker.cut()
    await pod.wait_for_state("degraded", timeout_s=5)
    for number in range(3):
        pod.publish_nowait(USER, number)
    await until(lambda: len(got) == 4, "the alarm")
    # It follows the event whose publish it reports on.
    assert got[0] == 0
    assert [item for item in got if item != "an alarm"] == [0, 1, 2]
    fleet.broker.restore()


# Other loops, threads and processes


async def test_an_attachment_is_detached_in_its_own_loop_alone() -> None:
    async with InMemoryBackplane() as backplane:
        attachment = await backplane.attach("c1", print)
        failures: list[BaseException] = []

        async def detach() -> None:
            await attachment.detach()

        def elsewhere() -> None:
            try:
                asyncio.run(detach())
            except BaseException as error:  # noqa: BLE001 -- whatever it is
                failures.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert [type(error) for error in failures] == [WrongLoopError]
        assert backplane.connection_count == 1


async def test_publishing_from_a_thread_of_a_forked_child_raises() -> None:
    async with InMemoryBackplane() as backplane:
        backplane._loop_binding.forked()
        with pytest.raises(ClosedError, match="parent process"):
            backplane.publish_threadsafe(USER, 1)
        backplane._loop_binding.is_child = False


# Outboxes


def test_nothing_is_evicted_where_that_would_make_no_room() -> None:
    outbox = Outbox(1_000, 1_000)
    outbox.offer(frame(900))
    outbox.take(1 << 20)
    for _ in range(10):
        assert outbox.offer(frame(10))
    assert outbox.evict(200) == []
    assert outbox.messages == 11
    assert len(outbox.evict(50)) == 5
    assert outbox.offer(frame(50))


def test_nothing_is_evicted_where_all_places_are_taken_by_what_is_in_flight() -> None:
    outbox = Outbox(3, 1_000)
    for _ in range(3):
        outbox.offer(frame(10))
    outbox.take(1 << 20)
    assert outbox.evict(10) == []


def make_sender(clock: Callable[[], float], **options: Any) -> tuple[Sender, Reporter]:
    settings = Settings.of(options)
    routing = make_routing(settings.routing, settings.channel, settings.lanes)
    reporter = Reporter()
    peers = Peers(routing, settings.origin_ttl_s, reporter)
    system = System(monotonic=clock)
    return Sender(OwnFrames.of("o", routing, "p"), routing, settings, peers, reporter, system), reporter


async def test_what_was_sent_too_long_ago_is_counted_and_not_sent_again() -> None:
    """A receiver may have forgotten its number: it would take the copy for another event."""
    now = 0.0
    sender, reporter = make_sender(lambda: now, origin_ttl_s=300.0)
    sender.send((USER,), b"1", None)
    sender.send((USER,), b"2", None)
    assert len(await sender.next_batch()) == 2
    now = 140.0
    sender.link_lost("cut", resend=True)
    sender.send((USER,), b"3", None)
    assert [b'"event":1' in payload for _, payload, *_ in await sender.next_batch()] == [True], "soon enough"
    sender.link_lost("cut", resend=True)
    now = 151.0
    assert [b'"event":3' in payload for _, payload, *_ in await sender.next_batch()] == [True]
    assert reporter.counters.dropped == {"unconfirmed": 2}
    sender.confirmed()
    now = 1_000.0
    sender.send((USER,), b"5", None)
    assert len(await sender.next_batch()) == 1, "what waited and was never sent is as good as new"


async def test_a_pod_that_is_told_of_unnumbered_ones_sends_nothing_again() -> None:
    routing = make_routing("broadcast", "c", 1)
    assert Peers(routing, 300.0, Reporter()).can_deduplicate(0.0)
    assert not Peers(routing, 300.0, Reporter(), unnumbered=True).can_deduplicate(0.0)
    broker = MemoryBroker()
    async with DistributedBackplane(MemoryTransport(broker), unnumbered_pods=True) as pod:
        assert pod.state == "live"


@pytest.mark.parametrize("outbox_max_bytes", [1_024, 4_096])
async def test_a_pod_with_the_smallest_outbox_beats_all_the_same(fleet: MemoryFleet, outbox_max_bytes: int) -> None:
    pod = await fleet.pod(outbox_max_bytes=outbox_max_bytes, probe_interval_s=0.5, beat_s=0.05)
    beats = pod.stats().beats
    await until(lambda: pod.stats().beats > beats + 1, "it hears itself")


# Life


def test_a_link_whose_reader_is_behind_is_neither_deaf_nor_stalled() -> None:
    heartbeat = Heartbeat(1.0, 0.1, hears=True)
    heartbeat.link_opened()
    heartbeat.writing()
    now = 0.0
    for _ in range(200):
        now += heartbeat.tick_s
        heartbeat.behind()
        assert heartbeat.tick(now, 1, is_held_up=True) not in {"deaf", "stalled"}
    actions = set[str]()
    for _ in range(50):
        now += heartbeat.tick_s
        actions.add(heartbeat.tick(now, 1))
    assert "stalled" in actions


async def test_a_refused_frame_without_a_number_says_nothing_of_who_is_there(fleet: MemoryFleet) -> None:
    pod = await fleet.pod(beat_s=60)
    link = await MemoryTransport(fleet.broker).open()
    bad = b'{"origin":"x","target":{"not_pascal":"u1"},"event":1}'
    await link.send([(channel_of(pod, Target.everyone()), bad)])
    await until(lambda: pod.stats().decode_errors == 1, "it is refused")
    assert pod.stats().foreign == 0
    good = b'{"origin":"x","target":{"User":"u1"},"event":1}'
    await link.send([(channel_of(pod, Target.everyone()), good)])
    await until(lambda: pod.stats().foreign == 1, "an unnumbered pod is there")
    await link.aclose()


async def test_connections_that_come_and_go_while_the_broker_is_away_leave_nothing_behind() -> None:
    fleet = MemoryFleet("interest")
    async with fleet.stack:
        pod = await fleet.pod()
        await pod.attach("stays", print)
        await pod.associate("stays", USER)
        fleet.broker.cut()
        await pod.wait_for_state("degraded", timeout_s=5)
        for number in range(500):
            await pod.attach(f"c{number}", print)
            assert await pod.associate(f"c{number}", Target.user(f"user {number}")) is False
            await pod.detach(f"c{number}")
        subscriptions: Any = pod._subscriptions
        assert len(subscriptions._targets) == 3
        assert len(subscriptions._touched) <= 3
        fleet.broker.restore()
        await pod.wait_for_state("live", timeout_s=5)
        assert await pod.associate("stays", Target.user("another")) is True


@pytest.mark.parametrize("routing", ["broadcast", "interest"])
async def test_an_event_that_is_too_large_for_this_pod_is_a_gap_of_its_connections_at_once(routing: str) -> None:
    fleet = MemoryFleet(routing)
    async with fleet.stack:
        here, there = await fleet.pod(), await fleet.pod(max_event_bytes=1_000)
        socket = await fleet.socket(there, "c1", USER)
        await here.publish(USER, "x" * 2_000)
        await until(lambda: bool(socket.gaps), "the gap")
        (gap,) = socket.gaps
        assert (gap.cause, gap.missed) == ("sequence", 1)
        assert "1000" in gap.reason
        await here.publish(USER, "small")
        assert await socket.has(1) == ["small"]
        assert len(socket.gaps) == 1
        assert there.stats().decode_errors == 1
