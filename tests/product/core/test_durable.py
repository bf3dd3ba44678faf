"""Over a log: what a link breaks off, the next one goes on with; a gap is what the log lost, and no more."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, ClassVar

import pytest
from attrs import define, field
from backplane_core import ConfigurationError, DistributedBackplane, EventDropped, Record, Target
from backplane_core._runtime.system import System
from backplane_core.testing import MemoryBroker, MemoryLog, MemoryLogTransport, MemoryTransport

from tests.support.fleets import MemoryFleet
from tests.support.inside import channel_of
from tests.support.sockets import attach, settled
from tests.support.waiting import until

USER = Target.user("u1")
OTHER = Target.user("u2")
KEYS = ["0123456789abcdef0123456789abcdef"]


@define
class Clocks:
    """Both clocks of a fleet, which a test can put forward."""

    ahead_s: float = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_s

    def wall(self) -> float:
        return time.time() + self.ahead_s


class Clocked(DistributedBackplane):
    """The real thing, on clocks that a test can put forward."""

    clocks: ClassVar[Clocks]

    def _make_system(self) -> System:
        return System(monotonic=self.clocks.monotonic, wall=self.clocks.wall)


@define
class LogFleet:
    """Opens pods over one `MemoryLog`."""

    options: dict[str, Any]
    broker: MemoryLog = field(factory=MemoryLog)
    clocks: Clocks = field(factory=Clocks)
    stack: AsyncExitStack = field(factory=AsyncExitStack)

    async def pod(self, **options: Any) -> DistributedBackplane:
        chosen: dict[str, Any] = {"beat_s": 0.05, **self.options, **options}
        kind = type("Clocked", (Clocked,), {"clocks": self.clocks})
        pod: DistributedBackplane = kind(MemoryLogTransport(self.broker), **chosen)
        return await self.stack.enter_async_context(pod)


@pytest.fixture(params=["plain", "signed"])
async def fleet(request: pytest.FixtureRequest) -> AsyncIterator[LogFleet]:
    fleet = LogFleet({"signing_keys": KEYS} if request.param == "signed" else {})
    async with fleet.stack:
        yield fleet


async def all_live(*pods: DistributedBackplane) -> None:
    await until(lambda: all(pod.state == "live" for pod in pods), "the pods are live again")


async def test_a_broker_that_restarts_costs_no_connection_an_event(fleet: LogFleet) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    socket = await attach(here, "c1", USER)
    await there.publish(USER, 1)
    await socket.has(1)
    fleet.broker.cut()
    await until(lambda: here.state == there.state == "degraded", "the links are dead")
    await there.publish(USER, 2)
    fleet.broker.restore()
    await there.publish(USER, 3)
    await socket.has(3)
    assert socket.stream == [1, 2, 3]
    assert not here.stats().gaps


async def test_what_was_added_while_a_pod_had_no_link_is_read_by_its_next_one(fleet: LogFleet) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    socket = await attach(here, "c1", USER)
    for number in range(50):
        await there.publish(USER, number)
        if number % 10 == 5:
            fleet.broker.drop_links()
    await there.flush(timeout_s=10)
    await settled(there, sockets=[socket])
    assert socket.stream == [*range(50)]


async def test_an_event_that_comes_before_the_pod_listened_is_not_delivered(fleet: LogFleet) -> None:
    there = await fleet.pod()
    await there.publish(USER, "before")
    await there.flush(timeout_s=10)
    here = await fleet.pod()
    socket = await attach(here, "c1", USER)
    await there.publish(USER, "after")
    await socket.has(1)
    assert socket.stream == ["after"]


async def test_a_pod_whose_first_link_brought_nothing_resumes_where_that_one_began(fleet: LogFleet) -> None:
    here, there = await fleet.pod(beat_s=60), await fleet.pod(beat_s=60)
    socket = await attach(here, "c1", USER)
    channel = channel_of(there, USER)
    fleet.broker.hold(channel)
    await there.publish(USER, "added while nothing was read")
    await there.flush(timeout_s=10)
    fleet.broker.drop_links()
    fleet.broker.release()
    await socket.has(1)
    assert socket.stream == ["added while nothing was read"]


async def test_a_confirmation_that_is_lost_makes_copies_that_no_sink_sees(fleet: LogFleet) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    socket = await attach(here, "c1", USER)
    fleet.broker.loses_confirmations = True
    await there.publish(USER, 1)
    await until(lambda: len(fleet.broker.payloads(channel_of(there, USER))) > 0, "it was added")
    await until(lambda: there.stats().links > 0 and there.state == "degraded", "the confirmation was lost")
    fleet.broker.loses_confirmations = False
    await there.publish(USER, 2)
    await socket.has(2)
    await settled(there, sockets=[socket])
    assert socket.stream == [1, 2]
    assert here.stats().duplicates >= 1
    assert not here.stats().gaps


@pytest.mark.parametrize("loss", ["everything", "its end"])
async def test_what_a_log_forgot_is_sent_again_by_those_who_sent_it(fleet: LogFleet, loss: str) -> None:
    """The reader lags, so what the log forgets is what it has not read yet."""
    here, there = await fleet.pod(), await fleet.pod()
    socket = await attach(here, "c1", USER)
    await there.publish(USER, 1)
    await socket.has(1)
    channel = channel_of(there, USER)
    fleet.broker.hold(channel)
    for number in range(2, 8):
        await there.publish(USER, number)
    await there.flush(timeout_s=10)
    fleet.broker.release()
    if loss == "everything":
        fleet.broker.erase()
    else:
        assert fleet.broker.forget(6, channel) == 6
    await there.publish(USER, 8)
    await socket.has(8)
    await settled(there, sockets=[socket])
    assert socket.stream == [*range(1, 9)]
    assert not here.stats().gaps


@pytest.mark.parametrize("goes_on", [True, False], ids=["published on", "never again"])
async def test_without_the_ring_what_a_log_forgot_is_a_gap_with_the_exact_number(
    fleet: LogFleet, *, goes_on: bool
) -> None:
    here, there = await fleet.pod(), await fleet.pod(resend_max_bytes=0)
    socket = await attach(here, "c1", USER)
    for number in range(3):
        await there.publish(USER, number)
    await socket.has(3)
    channel = channel_of(there, USER)
    fleet.broker.hold(channel)
    for number in range(3, 8):
        await there.publish(USER, number)
    await there.flush(timeout_s=10)
    fleet.broker.release()
    # One of those that were read is among them, by which the reader sees that the log went back.
    assert fleet.broker.forget(6, channel) == 6
    await all_live(here, there)
    if goes_on:
        await there.publish(USER, 8)
        await socket.has(4)
    await until(lambda: socket.gaps, "the gap is reported")
    [gap] = socket.gaps
    assert (gap.cause, gap.missed, gap.channel) == ("epoch", 5, channel)
    assert socket.stream == [0, 1, 2, gap, *([8] if goes_on else [])]


async def test_what_was_trimmed_before_it_was_read_is_a_gap_with_the_exact_number(fleet: LogFleet) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    socket, other = await attach(here, "c1", USER), await attach(here, "c2", OTHER)
    await there.publish(USER, 0)
    await socket.has(1)
    channel = channel_of(there, USER)
    assert channel != channel_of(there, OTHER)
    fleet.broker.hold(channel)
    for number in range(1, 101):
        await there.publish(USER, number)
    await there.publish(OTHER, "unharmed")
    await there.flush(timeout_s=10)
    assert fleet.broker.trim(10, channel) > 0
    fleet.broker.release()
    await socket.has(11)
    [gap] = socket.gaps
    assert (gap.cause, gap.missed, gap.channel) == ("trimmed", 90, channel)
    assert socket.stream == [0, gap, *range(91, 101)]
    await other.has(1)
    assert not [gap for gap in other.gaps if gap.channel == channel and gap.missed == 0]


async def test_what_was_trimmed_while_there_was_no_link_is_a_gap_with_the_exact_number(fleet: LogFleet) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    socket = await attach(here, "c1", USER)
    await there.publish(USER, 0)
    await socket.has(1)
    channel = channel_of(there, USER)
    fleet.broker.hold(channel)
    for number in range(1, 31):
        await there.publish(USER, number)
    await there.flush(timeout_s=10)
    fleet.broker.trim(20, channel)
    fleet.broker.drop_links()
    fleet.broker.release()
    await socket.has(21)
    [gap] = socket.gaps
    assert (gap.cause, gap.missed) == ("trimmed", 10)
    assert socket.stream == [0, gap, *range(11, 31)]


async def test_a_number_that_the_outbox_dropped_is_a_gap_across_a_new_link_too(fleet: LogFleet) -> None:
    """No gap of an outage covers it: over a log there is none."""
    here, there = await fleet.pod(), await fleet.pod(outbox_max_messages=5)
    socket = await attach(here, "c1", USER)
    await there.publish(USER, "before")
    await socket.has(1)
    fleet.broker.cut()
    await until(lambda: here.state == there.state == "degraded", "the links are dead")
    for number in range(20):
        there.publish_nowait(USER, number)
    dropped = there.stats().dropped["outbox"]
    assert dropped
    fleet.broker.restore()
    await all_live(here, there)
    await there.publish(USER, "after")
    await until(lambda: "after" in socket.events, "the last one comes")
    assert sum(gap.missed or 0 for gap in socket.gaps) == dropped
    assert len(socket.events) + dropped == 22


async def test_an_outage_longer_than_numbers_live_makes_no_second_delivery(fleet: LogFleet) -> None:
    """A number ages while its pod listens: the copy that a sender sends again is known after any outage."""
    here, there = await fleet.pod(origin_ttl_s=60), await fleet.pod(origin_ttl_s=10_000)
    socket = await attach(here, "c1", USER)
    await there.publish(USER, 1)
    await socket.has(1)
    fleet.broker.erase()
    fleet.broker.cut()
    await until(lambda: here.state == there.state == "degraded", "the links are dead")
    fleet.clocks.ahead_s += 1_000
    fleet.broker.restore()
    await until(lambda: here.stats().duplicates, "the copy came")
    await settled(there, sockets=[socket])
    assert socket.stream == [1]


async def test_an_outage_longer_than_stale_after_s_makes_no_gap_that_nothing_ends(fleet: LogFleet) -> None:
    here = await fleet.pod(stale_after_s=0.01)
    socket = await attach(here, "c1", USER)
    fleet.broker.cut()
    await until(lambda: here.state == "degraded", "the link is dead")
    async with MemoryFleet().make(stale_after_s=0.01) as plain:
        alarmed = await attach(plain, "c1", USER)
        plain_broker(plain).cut()
        await until(lambda: alarmed.gaps, "a pod without a log is notified in that time")
    assert not socket.gaps
    fleet.broker.restore()
    await all_live(here)
    assert not socket.gaps


def plain_broker(pod: DistributedBackplane) -> MemoryBroker:
    transport = pod._transport  # pyright: ignore[reportPrivateUsage]
    assert isinstance(transport, MemoryTransport)
    return transport.broker


async def test_flush_waits_for_the_log(fleet: LogFleet) -> None:
    there = await fleet.pod()
    await there.publish(USER, 1)
    await there.flush(timeout_s=10)
    assert len(fleet.broker.payloads(channel_of(there, USER))) == 1


async def test_a_ring_that_is_refused_is_counted(fleet: LogFleet) -> None:
    records: list[Record] = []
    there = await fleet.pod(observer=records.append)
    await there.publish(USER, 1)
    await there.flush(timeout_s=10)
    fleet.broker.erase()
    await all_live(there)
    await until(lambda: fleet.broker.payloads(channel_of(there, USER)), "it was sent again")
    assert not [record for record in records if isinstance(record, EventDropped)]


def test_routing_by_interest_is_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match="leave it out"):
        DistributedBackplane(MemoryLogTransport(), routing="interest")


async def test_targets_are_spread_over_eight_lanes_unless_the_host_says() -> None:
    async with DistributedBackplane(MemoryLogTransport()) as pod:
        assert len({channel_of(pod, Target.user(f"u{number}")) for number in range(200)}) == 8
    async with DistributedBackplane(MemoryLogTransport(), lanes=1) as pod:
        assert len({channel_of(pod, Target.user(f"u{number}")) for number in range(200)}) == 1


async def test_a_pod_that_was_cut_off_for_long_takes_what_was_signed_meanwhile() -> None:
    fleet = LogFleet({"signing_keys": KEYS, "origin_ttl_s": 60})
    async with fleet.stack:
        here, there = await fleet.pod(), await fleet.pod()
        socket = await attach(here, "c1", USER)
        await there.publish(USER, 1)
        await socket.has(1)
        fleet.broker.hold(channel_of(there, USER))
        await there.publish(USER, 2)
        await there.flush(timeout_s=10)
        fleet.broker.cut()
        await until(lambda: here.state == "degraded", "the link is dead")
        fleet.clocks.ahead_s += 1_000
        fleet.broker.release()
        fleet.broker.restore()
        await socket.has(2)
        assert socket.stream == [1, 2]
        assert not here.stats().signature_errors
