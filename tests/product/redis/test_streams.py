"""Redis Streams under a fleet: a server that dies, cuts, forgets, trims or refuses costs no event in silence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from backplane_core import (
    ConfigurationError,
    TransportError,
    connect,
)
from backplane_redis import StreamsTransport
from backplane_redis._streams import reader as reader_module
from backplane_redis._streams import upkeep as upkeep_module
from backplane_redis._streams import writer as writer_module
from backplane_redis._streams.session import Session
from backplane_testservers import Broker, OwnBroker, Proxy, RedisCluster, RedisServer, ScriptedRedis
from backplane_testservers.scripted_redis import error
from redis.asyncio import Redis

from tests.conftest import StartServer
from tests.product.logs.traffic import USER, fleet
from tests.support.sockets import attach
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("streams_url")


def streams(url: str) -> str:
    return url.replace("://", "+streams://", 1)


@asynccontextmanager
async def server(url: str) -> AsyncGenerator[Any]:
    """A client of the server's own kind, which does what an operator does."""
    client: Any = Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType] -- redis-py's gap
    try:
        yield client
    finally:
        await client.aclose()


async def test_a_replica_that_is_promoted_without_the_last_events_costs_none(
    redis_server: OwnBroker, channel: str
) -> None:
    """The same in one server: it is set back to an earlier state, as one is that was behind."""
    async with fleet(streams(redis_server.url), channel) as traffic, server(redis_server.url) as operator:
        await traffic.publish(300)
        await traffic.settle()
        before = {key: await operator.dump(key) for key in await operator.keys(f"{channel}*")}
        await traffic.publish(300)
        await traffic.settle()
        for key, state in before.items():
            await operator.restore(key, 0, state, replace=True)
        await operator.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await traffic.publish(300)
        await traffic.settle()
        for socket in traffic.sockets:
            assert traffic.missing(socket) == 0
            assert not socket.gaps
        assert sum([pod.stats().duplicates for pod in traffic.pods]) > 0


async def test_a_gap_over_a_log_begins_where_reading_had_stopped_and_not_with_the_next_link(
    redis_server: OwnBroker, channel: str
) -> None:
    """What was published while a pod had no link is read late; what it refuses of that lies where it was published."""
    options: dict[str, Any] = {"channel": channel, "beat_s": 0.1, "probe_interval_s": 0.5}
    with Proxy(redis_server.host, redis_server.port) as proxy:
        async with (
            connect(streams(redis_server.url), **options) as there,
            connect(proxy.url(streams(redis_server.url)), max_event_bytes=500, **options) as here,
        ):
            socket = await attach(here, "c1", USER)
            proxy.refuse()
            proxy.reset()
            await here.wait_for_state("degraded", timeout_s=20)
            await asyncio.sleep(0.2)
            published_at = time.time()
            await there.publish(USER, "x" * 1_000)
            await there.flush(timeout_s=20)
            await asyncio.sleep(0.2)
            proxy.heal()
            await until(lambda: socket.gaps, "a gap says that it was refused")
    (gap,) = socket.gaps
    assert gap.missed == 1
    assert gap.since <= published_at <= gap.until


@pytest.mark.parametrize("remains", [0, 2], ids=["all is new", "some is older"])
async def test_streams_that_all_lost_their_ends_are_asked_at_once(
    redis_url: str, channel: str, monkeypatch: pytest.MonkeyPatch, remains: int
) -> None:
    """One after the other would take longer than core waits for a link's first answer, if the line is slow."""
    asked: list[int] = []
    ask = Session.ask

    async def counted(self: Session, *commands: bytes) -> list[Any]:
        asked.append(len(commands))
        return await ask(self, *commands)

    channels = [f"{channel}:@{lane}" for lane in range(64)]
    transport = StreamsTransport(streams(redis_url))
    first, second = await transport.open(), await transport.open()
    try:
        for _ in range(remains):
            await first.send([(one, b"older") for one in channels])
        begun = await first.resume(channels, {})
        # Behind entries that these streams have lost.
        after = {one: _one_later(cursor) for one, cursor in begun.items()}
        await first.send([(one, b"after") for one in channels])
        monkeypatch.setattr(Session, "ask", counted)
        places = await second.resume(channels, after)
    finally:
        await first.aclose()
        await second.aclose()
    assert asked == [128, 64] if remains else [128], "what they are like, and what is behind the cursors"
    assert {place.rpartition("/")[2] for place in places.values()} == {str(remains)}


def _one_later(cursor: str) -> str:
    """Return the cursor of an entry that was added behind this one, in the same millisecond."""
    id_, _, number = cursor.partition("/")
    millisecond, _, count = id_.partition("-")
    return f"{millisecond}-{int(count) + 1}/{int(number) + 1}"


async def test_a_stream_that_was_deleted_is_noticed_also_by_who_has_read_what_was_written_to_it_since(
    redis_url: str, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "LOOK_EVERY_S", 0.3)
    monkeypatch.setattr(reader_module, "BLOCK_MS", 20)
    link = await StreamsTransport(streams(redis_url)).open()
    try:
        await link.resume([channel], {})
        await link.send([(channel, b"%d" % number) for number in range(5)])
        batches = link.receive()
        assert await anext(batches)
        async with server(redis_url) as operator:
            await operator.delete(channel)
        await link.send([(channel, b"new")])
        payloads: list[bytes] = []

        async def read_on() -> None:
            async for batch in batches:
                payloads.extend([item[1] for item in batch if isinstance(item, tuple)])

        with pytest.raises(TransportError, match="was deleted or replaced"):
            await asyncio.wait_for(read_on(), 30)
        assert payloads[-1:] == [b"new"], "it was read before anybody looked"
    finally:
        await link.aclose()


async def test_upkeep_takes_no_round_trip_of_its_own(
    redis_url: str, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A confirmation that waits for it would be late: core might take that for a broker that confirms nothing."""
    monkeypatch.setattr(upkeep_module, "LOOK_EVERY_S", 0.0)
    asked: list[int] = []
    ask = Session.ask

    async def counted(self: Session, *commands: bytes) -> list[Any]:
        asked.append(len(commands))
        return await ask(self, *commands)

    link = await StreamsTransport(streams(redis_url), retain_bytes=65_536).open()
    try:
        monkeypatch.setattr(Session, "ask", counted)
        for _ in range(10):
            await link.send([(channel, bytes(10_000)) for _ in range(5)])
    finally:
        await link.aclose()
    assert len(asked) == 10
    assert max(asked) > 7, "and streams are looked at all the same"


async def test_a_stream_keeps_as_many_bytes_as_it_should(
    redis_url: str, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep_module, "LOOK_EVERY_S", 0.0)
    link = await StreamsTransport(streams(redis_url), retain_bytes=200_000).open()
    try:
        async with server(redis_url) as operator:
            for _ in range(40):
                await link.send([(channel, bytes(1_000)) for _ in range(100)])
            usage = await operator.memory_usage(channel, samples=0)
            assert usage < 600_000
            assert await operator.xlen(channel) > 50
    finally:
        await link.aclose()


async def test_a_server_without_memory_makes_senders_wait_and_breaks_no_order(
    redis_server: OwnBroker, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "RETRY_S", 0.02)
    async with fleet(streams(redis_server.url), channel) as traffic, server(redis_server.url) as operator:
        await traffic.publish(30)
        await traffic.settle()
        links = [pod.stats().links for pod in traffic.pods]
        await operator.config_set("maxmemory-policy", "noeviction")
        await operator.config_set("maxmemory", "1")
        await traffic.publish(300)
        with pytest.raises(TimeoutError):
            await traffic.pods[0].flush(timeout_s=0.3)
        await operator.config_set("maxmemory", "0")
        await traffic.settle()
        assert [pod.stats().links for pod in traffic.pods] == links
        for socket in traffic.sockets:
            assert traffic.missing(socket) == 0
            assert not socket.gaps


async def test_rubbish_in_a_stream_is_counted_and_passed_over(redis_url: str, channel: str) -> None:
    async with fleet(streams(redis_url), channel, lanes=1) as traffic, server(redis_url) as operator:
        for fields in ({"x": "y"}, {"f": "no envelope"}, {"f": "1", "g": "2"}):
            await operator.xadd(channel, fields)
        await traffic.publish(10)
        await traffic.settle()
        for pod, socket in zip(traffic.pods, traffic.sockets, strict=True):
            assert traffic.missing(socket) == 0
            assert pod.stats().decode_errors == 3


async def test_a_key_that_is_no_stream_is_named(redis_url: str, channel: str) -> None:
    async with server(redis_url) as operator:
        await operator.set(channel, "x")
        with pytest.raises(TransportError, match="holds no stream"):
            await connect(streams(redis_url), channel=channel, connect_timeout_s=5)
        await operator.delete(channel)


async def test_a_user_without_rights_learns_which_to_grant(redis_server: OwnBroker, channel: str) -> None:
    async with server(redis_server.url) as operator:
        await operator.acl_setuser(
            "reader", enabled=True, passwords=["+s3cr3t"], commands=["+@all"], keys=["other"], channels=["*"]
        )
        url = streams(redis_server.url).replace("://", "://reader:s3cr3t@")
        with pytest.raises(TransportError) as caught:
            await connect(url, channel=channel)
        assert f"grant ~{channel} and ~{channel}:*" in str(caught.value)
        assert "s3cr3t" not in str(caught.value)


async def test_a_server_without_streams_is_named(leaves_nothing: None) -> None:
    with ScriptedRedis({"XINFO": error("ERR unknown command 'XINFO', with args beginning with: 'STREAM'")}) as scripted:
        with pytest.raises(TransportError, match="it knows no XRANGE: streams need Redis") as refused:
            await connect(streams(scripted.url))
        assert not refused.value.retryable


async def test_a_node_of_a_cluster_is_refused(shared_redis_cluster: RedisCluster) -> None:
    url = streams(shared_redis_cluster.url.replace("redis-cluster://", "redis://").split(",")[0])
    with pytest.raises(TransportError, match="node of a cluster"):
        await connect(url)


async def test_a_fleet_over_resp2_goes_on_where_it_was(shared_redis: Broker, channel: str) -> None:
    async with fleet(streams(f"{shared_redis.url}?protocol=2"), channel) as traffic:
        await traffic.publish(200)
        await traffic.settle()
        for socket in traffic.sockets:
            assert traffic.missing(socket) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"retain_entries": 0},
        {"retain_entries": "many"},
        {"retain_bytes": 1},
        {"retain_s": 0},
        {"retain_s": True},
    ],
    ids=str,
)
def test_a_wrong_retention_says_what_is_allowed(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="retain_entries is"):
        StreamsTransport("redis+streams://localhost", **options)


def test_a_wrong_url_or_routing_is_an_error_at_once_and_shows_no_secret() -> None:
    assert repr(StreamsTransport("rediss+streams://u:s3cr3t@host:6380/1")) == (
        "StreamsTransport('rediss+streams://u:***@host:6380/1')"
    )
    with pytest.raises(ConfigurationError) as caught:
        StreamsTransport("redis+streams://u:s3cr3t@host:port")
    assert "s3cr3t" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="routing='interest'"):
        connect("redis+streams://localhost", routing="interest")


async def test_settings_that_break_a_promise_are_warned_of_once(
    start: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = start(RedisServer(extra=["maxmemory 100mb", "maxmemory-policy allkeys-lru"]))
    transport = StreamsTransport(streams(server.url))
    for _ in range(2):
        await (await transport.open()).aclose()
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 2
    assert "noeviction" in warnings[0]
    assert "appendonly yes" in warnings[1]
    caplog.clear()
    kept = start(RedisServer(extra=["appendonly yes", "maxmemory 100mb", "maxmemory-policy volatile-lru"]))
    await (await StreamsTransport(streams(kept.url)).open()).aclose()
    assert not caplog.records
