"""Streams of a master that sentinels name: one that dies, is replaced or left behind costs no event."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
from backplane_core import (
    BackplaneError,
    BaseBackplane,
    BrokerReport,
    ConfigurationError,
    DurableLink,
    InspectableTransport,
    Target,
    Transport,
    TransportError,
    connect,
)
from backplane_redis import SentinelStreamsTransport
from backplane_redis._sentinel.watch import MasterWatch
from backplane_redis._streams.trail import Step, Trails
from backplane_testservers import free_port
from backplane_testservers.sentinels import SERVICE, SentinelSet, ask

from tests.conftest import available
from tests.product.logs.traffic import USER, Traffic, fleet, reading
from tests.support.sockets import attach
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("streams_url", "leaves_nothing")

DEADLINE_S = 90.0
"""A failover takes three seconds, unless the machine is busy or two sentinels each hold an election."""


def over_streams(sentinels: SentinelSet) -> str:
    return sentinels.url.replace("://", "+streams://", 1)


@pytest.fixture(scope="module")
def plain() -> Iterator[SentinelSet]:
    """Shared: a master and one sentinel that is in no hurry to call it dead."""
    with available(SentinelSet(replicas=1, sentinels=1, down_after_ms=60_000)) as sentinels:
        yield sentinels


@pytest.fixture
def sentinels() -> Iterator[SentinelSet]:
    with available(SentinelSet()) as sentinels:
        yield sentinels


async def at_the_next_master(traffic: Traffic, links: list[int]) -> None:
    for pod, before in zip(traffic.pods, links, strict=True):
        await until(
            lambda pod=pod, before=before: pod.stats().links > before and pod.state == "live",  # type: ignore[misc]
            "each pod is at the next master",
            DEADLINE_S,
        )


async def test_transport_and_link_are_what_core_asks_for(plain: SentinelSet, channel: str) -> None:
    transport = SentinelStreamsTransport(over_streams(plain))
    assert isinstance(transport, Transport)
    assert isinstance(transport, InspectableTransport)
    link: DurableLink = await transport.open()
    async with reading(link) as got:
        assert repr(link) == f"<SentinelStreamLink {plain.master.host}:{plain.master.port} live>"
        await link.resume([channel], {})
        await link.send([(channel, b"1")])
        await until(lambda: got, "it comes")
    assert [frame[:2] for frame in got if isinstance(frame, tuple)] == [(channel, b"1")]
    with pytest.raises(TransportError, match="is dead: it was closed"):
        await link.send([(channel, b"2")])


@pytest.mark.parametrize("scheme", ["redis+sentinel+streams", "valkey+sentinel+streams", "REDIS+SENTINEL+STREAMS"])
async def test_connect_finds_the_adapter_by_each_scheme(plain: SentinelSet, scheme: str, channel: str) -> None:
    _, _, rest = plain.url.partition("://")
    async with connect(f"{scheme}://{rest}/0", channel=channel, transport_options={"retain_s": 60}) as backplane:
        assert await backplane.publish(Target.user("u1"), 1) == 0
        await backplane.flush(timeout_s=DEADLINE_S)


@pytest.mark.parametrize("scheme", ["redis+streams+sentinel", "redis-streams-sentinel", "redis+sentinel+stream"])
def test_another_spelling_is_answered_with_the_right_one(scheme: str) -> None:
    with pytest.raises(BackplaneError, match=r"did you mean redis\+sentinel\+streams://"):
        connect(f"{scheme}://h/{SERVICE}")


def test_a_url_shows_no_secret_and_an_error_says_what_is_allowed() -> None:
    transport = SentinelStreamsTransport("rediss+sentinel+streams://u:s3cr3t@a,b:1/orders/2?sentinel_password=s3cr3t")
    assert repr(transport) == "SentinelStreamsTransport('rediss+sentinel+streams://u:***@a:26379,b:1/orders/2')"
    for url, options in (
        ("redis+sentinel+streams://u:s3cr3t@a,b", {}),
        ("redis+sentinel+streams://u:s3cr3t@a/orders?nothing=1", {}),
        ("redis+sentinel+streams://u:s3cr3t@a/orders", {"retain_entries": 0}),
    ):
        with pytest.raises(ConfigurationError) as caught:
            SentinelStreamsTransport(url, **options)  # type: ignore[arg-type]
        assert "s3cr3t" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="interest"):
        connect("redis+sentinel+streams://a/orders", routing="interest")


async def test_a_master_that_is_killed_under_traffic_costs_no_event(sentinels: SentinelSet, channel: str) -> None:
    async with fleet(over_streams(sentinels), channel) as traffic:
        await traffic.publish(200)
        old, links = sentinels.master, traffic.links
        publishing = asyncio.create_task(traffic.publish(1_000))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(old.kill)
        await publishing
        await at_the_next_master(traffic, links)
        assert sentinels.has_failed_over(old)
        await traffic.publish(200)
        await traffic.settle()
        traffic.assert_whole()


async def test_a_planned_failover_costs_no_event(sentinels: SentinelSet, channel: str) -> None:
    async with fleet(over_streams(sentinels), channel) as traffic:
        await traffic.publish(200)
        old, links = sentinels.master, traffic.links
        await asyncio.to_thread(sentinels.fail_over)
        publishing = asyncio.create_task(traffic.publish(1_000))
        await at_the_next_master(traffic, links)
        await publishing
        assert sentinels.master is not old
        await traffic.settle()
        traffic.assert_whole()


async def test_a_replica_that_is_promoted_while_it_lags_behind_costs_no_event(
    sentinels: SentinelSet, channel: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What the master confirmed while no replica heard it is sent again to the next one."""
    async with fleet(over_streams(sentinels), channel) as traffic:
        await traffic.publish(200)
        await traffic.settle()
        old, links = sentinels.master, traffic.links
        nowhere = str(free_port())
        for node in sentinels.nodes:
            if node is not old:
                await asyncio.to_thread(ask, node, "REPLICAOF", "127.0.0.1", nowhere)
        await traffic.publish(300)
        for pod in traffic.pods:
            await pod.flush(timeout_s=DEADLINE_S)
        await asyncio.to_thread(old.kill)
        await at_the_next_master(traffic, links)
        await traffic.publish(100)
        await traffic.settle()
        traffic.assert_whole()
    assert "the log came back without what it had confirmed" in caplog.text


@pytest.mark.parametrize("trails", [True, False], ids=["on", "off"])
async def test_a_master_that_is_left_behind_alive_is_noticed_and_costs_no_event(
    sentinels: SentinelSet, channel: str, monkeypatch: pytest.MonkeyPatch, *, trails: bool
) -> None:
    """One pod finds out late: it wrote to the old master, and has read there, what nobody else saw or wrote.

    Without what the pod remembers of its way, it goes on behind entries that only the old master has, and what came
    to the new one before those is found by its numbers alone: a gap, though the log has it.
    """
    if not trails:
        monkeypatch.setattr(Trails, "steps", _no_steps)
    may_ask = asyncio.Event()
    may_ask.set()

    class LateWatch(MasterWatch):
        @staticmethod
        async def _pause() -> None:
            await MasterWatch._pause()
            await may_ask.wait()

    url = over_streams(sentinels)
    options: dict[str, Any] = {"channel": channel, "beat_s": 0.1}
    async with connect(url, **options) as here:
        stack = AsyncExitStack()
        with monkeypatch.context() as late:
            late.setattr("backplane_redis._sentinel.stream_link.MasterWatch", LateWatch)
            there = await stack.enter_async_context(connect(url, **options))
        async with stack:
            traffic = Traffic([here, there], [await attach(pod, f"c{n}", USER) for n, pod in enumerate((here, there))])
            await traffic.publish(200)
            await traffic.settle()
            may_ask.clear()
            await asyncio.sleep(0.2)
            links = traffic.links
            await asyncio.to_thread(sentinels.detach)
            await until(lambda: here.stats().links > links[0] and here.state == "live", "one finds out", DEADLINE_S)
            await traffic.publish(300)
            for pod in traffic.pods:
                await pod.flush(timeout_s=DEADLINE_S)
            assert there.stats().links == links[1], "the old master still serves it"
            may_ask.set()
            await at_the_next_master(traffic, links)
            await traffic.publish(100)
            await traffic.settle()
            if trails:
                traffic.assert_whole()
            else:
                missing = [traffic.missing(socket) for socket in traffic.sockets]
                assert missing[1] > 0, "the late one lacks what the other wrote meanwhile"
                assert sum([gap.missed or 0 for gap in traffic.sockets[1].gaps]) >= missing[1]


def _no_steps(_trails: Trails, _channel: str, _upto: object) -> list[Step]:
    return []


async def test_without_the_ring_what_a_deposed_master_confirmed_lies_inside_a_gap(
    sentinels: SentinelSet, channel: str
) -> None:
    async with fleet(over_streams(sentinels), channel, resend_max_bytes=0) as traffic:
        await traffic.publish(200)
        await traffic.settle()
        links = traffic.links
        await asyncio.to_thread(sentinels.detach)
        # Each pod is at the old master still, for a second or so.
        await traffic.publish(300)
        await at_the_next_master(traffic, links)
        await traffic.publish(100)
        await traffic.settle()
        for socket in traffic.sockets:
            await until(partial(_accounted, traffic, socket), "what is missing lies inside a gap")


def _accounted(traffic: Traffic, socket: Any) -> bool:
    return sum([gap.missed or 0 for gap in socket.gaps]) >= traffic.missing(socket)


async def test_jobs_outlive_their_master(sentinels: SentinelSet, channel: str) -> None:
    """At least once: what was done and not yet heard of by the next master may be done again."""
    done = set[int]()

    async def work(pod: BaseBackplane) -> None:
        async with pod.worker("work", lease_s=2.0) as jobs:
            async for job in jobs:
                async with job:
                    done.add(job.value)

    async with connect(over_streams(sentinels), channel=channel, beat_s=0.1) as pod:
        working = asyncio.create_task(work(pod))
        try:
            for number in range(100):
                await pod.enqueue("work", number)
            links = pod.stats().links
            await asyncio.to_thread(sentinels.master.kill)
            for number in range(100, 200):
                await pod.enqueue("work", number)
            await until(lambda: pod.stats().links > links and pod.state == "live", "the next master", DEADLINE_S)
            await until(lambda: len(done) == 200, "all are done", DEADLINE_S)
        finally:
            working.cancel()
            await asyncio.wait([working])


async def test_what_a_failover_needs_of_the_servers_is_said(
    plain: SentinelSet, caplog: pytest.LogCaptureFixture
) -> None:
    transport = SentinelStreamsTransport(over_streams(plain))
    report = await transport.inspect()
    assert report.server.endswith("1 replicas")
    wheres = {f"{node.host}:{node.port}" for node in plain.nodes}
    on_disk = {advice.partition(": ")[0] for advice in report.advice if "appendonly yes" in advice}
    assert on_disk == wheres, "each node is asked, as any may be the next master"
    assert nodes_without_good_replicas(report) == wheres, "each may be the next master in this as well"
    caplog.clear()
    for _ in range(2):
        await (await transport.open()).aclose()
    assert caplog.text.count("min-replicas-to-write 1") == 1
    master = plain.master
    ask(master, "CONFIG", "SET", "min-replicas-to-write", "1")
    try:
        report = await transport.inspect()
        assert nodes_without_good_replicas(report) == wheres - {f"{master.host}:{master.port}"}
    finally:
        ask(master, "CONFIG", "SET", "min-replicas-to-write", "0")


def nodes_without_good_replicas(report: BrokerReport) -> set[str]:
    return {advice.partition(": ")[0] for advice in report.advice if "set min-replicas-to-write 1" in advice}
