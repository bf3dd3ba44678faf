"""A fleet over a log: a server that dies, forgets, trims or is cut off costs no event in silence, whatever its kind."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from backplane_core import DurableLink, Lost, Publisher, connect
from backplane_testservers import Proxy

from tests.product.logs.servers import LogServer
from tests.product.logs.traffic import USER, fleet, reading
from tests.support.sockets import attach
from tests.support.waiting import until

MISSED = 8_000
"""Events that a pod reads later, for some ten seconds over a narrow line."""


async def test_a_server_without_a_disk_that_dies_costs_no_event(log_server: LogServer, channel: str) -> None:
    """It comes back empty, each time: what it had confirmed and not handed out is sent again."""
    await _kill_amid_traffic(log_server, channel, transport_options=log_server.options)


async def test_a_server_that_dies_and_kept_what_it_confirmed_costs_no_event(
    log_server: LogServer, channel: str
) -> None:
    await _kill_amid_traffic(log_server, channel)


async def _kill_amid_traffic(log_server: LogServer, channel: str, **options: Any) -> None:
    async with fleet(log_server.url, channel, **options) as traffic:
        for _ in range(3):
            links = traffic.links
            publishing = asyncio.create_task(traffic.publish(1_000))
            await asyncio.sleep(0.05)
            await asyncio.to_thread(log_server.broker.kill)
            await until(lambda: all(pod.state == "degraded" for pod in traffic.pods), "the pods noticed")
            await asyncio.to_thread(log_server.broker.start)
            await publishing
            await traffic.live_again(links)
        await traffic.settle()
        traffic.assert_whole()


@pytest.mark.parametrize("ring", [True, False], ids=["on", "off"])
async def test_without_the_ring_a_server_that_forgets_costs_events_and_each_lies_inside_a_gap(
    log_server: LogServer, channel: str, *, ring: bool
) -> None:
    options: dict[str, Any] = {"transport_options": log_server.options}
    if not ring:
        options["resend_max_bytes"] = 0
    with Proxy(log_server.broker.host, log_server.broker.port) as proxy:
        async with fleet(proxy.url(log_server.url), channel, **options) as traffic:
            await traffic.publish(10)
            await traffic.settle()
            # What is confirmed while nobody can read it is gone with the server.
            proxy.down.drop()
            async with Publisher(log_server.url, channel=channel, beat_s=0.1, **options) as lone:
                await lone.publish(USER, "lost")
                await lone.flush(timeout_s=10)
                links = traffic.links
                await asyncio.to_thread(log_server.broker.kill)
                assert proxy.down.dropped_bytes
                proxy.reset()
                proxy.heal()
                await asyncio.to_thread(log_server.broker.start)
                await traffic.live_again(links)
                for socket in traffic.sockets:
                    await until(lambda socket=socket: socket.gaps or "lost" in socket.events, "it comes, or a gap")  # type: ignore[misc]
            for socket in traffic.sockets:
                assert ("lost" in socket.events) == ring
                assert bool(sum([gap.missed or 0 for gap in socket.gaps])) != ring


async def test_a_pod_that_reads_on_for_longer_than_a_beat_may_take_keeps_its_link(
    log_server: LogServer, channel: str
) -> None:
    """It was cut off, and the line is narrow: its own beats come behind all that it missed."""
    options: dict[str, Any] = {"channel": channel, "lanes": 1, "beat_s": 0.1, "probe_interval_s": 2.0}
    with Proxy(log_server.broker.host, log_server.broker.port) as proxy:
        async with connect(proxy.url(log_server.url), **options) as pod, Publisher(log_server.url, **options) as worker:
            socket = await attach(pod, "c", USER)
            proxy.refuse()
            proxy.reset()
            await until(lambda: pod.state == "degraded", "the pod is cut off")
            for number in range(MISSED):
                await worker.publish(USER, [number, "x" * 250])
            await worker.flush(timeout_s=30)
            proxy.down.limit(300_000)
            proxy.accept()
            await until(lambda: pod.state == "live", "another link is live", 60)
            links, began = pod.stats().links, len(socket.events)
            assert began < MISSED / 2, "there is much to read"
            await until(lambda: len(socket.events) == MISSED, "it has read all", 120)
            assert pod.stats().links == links
        assert [event[0] for event in socket.events] == list(range(MISSED))
        assert not socket.gaps


async def test_links_that_are_cut_again_and_again_cost_no_event(log_server: LogServer, channel: str) -> None:
    with Proxy(log_server.broker.host, log_server.broker.port) as proxy:
        async with fleet(proxy.url(log_server.url), channel) as traffic:
            for _ in range(6):
                links = traffic.links
                publishing = asyncio.create_task(traffic.publish(500))
                await asyncio.sleep(0.02)
                proxy.reset()
                await publishing
                await traffic.live_again(links)
            assert proxy.resets >= 6
            await traffic.settle()
            traffic.assert_whole()


async def test_a_server_that_stands_still_costs_no_event(log_server: LogServer, channel: str) -> None:
    async with fleet(log_server.url, channel, probe_interval_s=0.5) as traffic:
        await traffic.publish(100)
        links = traffic.links
        await asyncio.to_thread(log_server.broker.freeze)
        try:
            await traffic.publish(300)
            await until(lambda: all(pod.state == "degraded" for pod in traffic.pods), "the pods noticed", 30)
        finally:
            await asyncio.to_thread(log_server.broker.thaw)
        await traffic.live_again(links)
        await traffic.settle()
        traffic.assert_whole()


async def test_logs_that_are_deleted_under_a_live_fleet_are_noticed(
    log_server: LogServer, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for reader in ("backplane_redis._streams.reader", "backplane_nats._jetstream.reader"):
        monkeypatch.setattr(f"{reader}.LOOK_EVERY_S", 0.05)
    monkeypatch.setattr("backplane_redis._streams.reader.BLOCK_MS", 50)
    async with fleet(log_server.url, channel) as traffic:
        await traffic.publish(100)
        await traffic.settle()
        links = traffic.links
        await log_server.delete([channel, *[f"{channel}:@{lane}" for lane in range(8)]])
        await traffic.live_again(links)
        await traffic.publish(100)
        await traffic.settle()
        for socket in traffic.sockets:
            assert traffic.missing(socket) == 0


async def test_what_was_trimmed_before_it_was_read_is_reported_with_its_number(
    log_server: LogServer, channel: str
) -> None:
    transport = log_server.transport()
    sender, late = [cast("DurableLink", await transport.open()) for _ in range(2)]
    async with reading(sender), reading(late) as got:
        [begin] = (await sender.resume([channel], {})).values()
        await sender.send([(channel, b"%d" % number) for number in range(50)])
        await log_server.trim(channel, keep=20)
        await late.resume([channel], {channel: begin})
        await until(lambda: len(got) >= 21, "what is left comes")
        page = await sender.read(channel, 5, after=begin)
    [lost, *_] = got
    frames = got[1:]
    assert isinstance(lost, Lost)
    assert (lost.channel, lost.missed, lost.cause) == (channel, 30, "trimmed")
    assert [frame[1] for frame in frames if isinstance(frame, tuple)] == [b"%d" % number for number in range(30, 50)]
    assert isinstance(page[0], Lost)
    assert page[0].missed == 30
    assert page[1:] == frames[:5]


async def test_a_reader_that_is_overtaken_by_trimming_is_not_handed_the_rest_as_if_nothing_was(
    log_server: LogServer, channel: str
) -> None:
    transport = log_server.transport(retain_entries=200)
    sender, late = [cast("DurableLink", await transport.open()) for _ in range(2)]
    async with reading(sender), reading(late) as got:
        [begin] = (await sender.resume([channel], {})).values()
        for start in range(0, 5_000, 500):
            await sender.send([(channel, b"%d" % number) for number in range(start, start + 500)])
        await late.resume([channel], {channel: begin})
        await until(lambda: got and isinstance(got[-1], tuple) and got[-1][1] == b"4999", "it has read to the end")
    missed = sum([item.missed or 0 for item in got if isinstance(item, Lost)])
    numbers = [int(item[1]) for item in got if isinstance(item, tuple)]
    assert missed > 0
    assert missed + len(numbers) == 5_000
    assert isinstance(got[0], Lost)
    assert numbers == sorted(numbers)


async def test_rubbish_in_a_log_is_counted_and_passed_over(log_server: LogServer, channel: str) -> None:
    async with fleet(log_server.url, channel, lanes=1) as traffic:
        for payload in (b"", b"no envelope", b"NATS/1.0 503\r\n\r\n"):
            await log_server.add(channel, payload)
        await traffic.publish(10)
        await traffic.settle()
        traffic.assert_whole()
        for pod in traffic.pods:
            assert pod.stats().decode_errors == 3
