"""Servers and proxies without RESP3: two connections, and the same promises."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from backplane_core import AuthenticationError, ConfigurationError, Gap, Publisher, Target, TransportError, connect
from backplane_redis import ClusterTransport, RedisTransport, SentinelTransport
from backplane_redis._link import RedisLink
from backplane_redis._resp2.echo import ECHO_EVERY_S, Echo
from backplane_redis._resp2.link import TwoConnectionLink
from backplane_testservers import OwnBroker, RedisServer, ScriptedRedis
from backplane_testservers.scripted import Answer, ScriptedConnection
from backplane_testservers.scripted_redis import error
from redis.credentials import UsernamePasswordCredentialProvider

from tests.conftest import StartServer
from tests.product.redis.reading import DEADLINE_S, Heard, admin_of, all_that_is_said, raised, read
from tests.product.redis.test_handshake import NO_RESP3
from tests.support.inside import live_link
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("leaves_nothing")

USER = Target.user("u1")
NO_PUBSUB: Mapping[str, Answer] = {
    "HELLO": error("unsupported command 'HELLO'"),
    "CLIENT": error("unsupported command 'CLIENT'"),
    "ROLE": error("unsupported command 'ROLE'"),
}
"""As Envoy does; what carries pub/sub is left to the test."""


class AsksFirst(ScriptedRedis):
    """A proxy that wants AUTH before anything else, and knows no HELLO then."""

    def __init__(self) -> None:
        super().__init__()
        self.known: set[int] = set()

    def usual(self, connection: ScriptedConnection, words: tuple[bytes, ...]) -> bytes:
        name = words[0].upper()
        if name == b"AUTH":
            if words[1:] != (b"s3cr3t",):
                return error("ERR invalid password")
            self.known.add(connection.number)
            return b"+OK\r\n"
        if connection.number not in self.known:
            return error("NOAUTH Authentication required.")
        return error("unsupported command 'HELLO'") if name == b"HELLO" else super().usual(connection, words)


@asynccontextmanager
async def reading_two(url: str, **options: Any) -> AsyncGenerator[tuple[TwoConnectionLink, Heard]]:
    async with asyncio.timeout(DEADLINE_S):
        link = await RedisTransport(url, connection_kwargs=options).open()
        assert isinstance(link, TwoConnectionLink)
    async with read(link) as heard:
        yield link, heard


def heard_until(link: TwoConnectionLink) -> float:
    proven = link.proven().received_until
    assert proven is not None
    return proven


@pytest.mark.parametrize("answer", NO_RESP3.values(), ids=NO_RESP3.keys())
@pytest.mark.parametrize("routing", ["broadcast", "interest"])
async def test_a_server_without_resp3_is_spoken_to_in_resp2_by_itself(answer: bytes, routing: Any) -> None:
    got: list[int] = []
    with ScriptedRedis({"HELLO": answer}) as server:
        async with connect(server.url, routing=routing) as here, connect(server.url, routing=routing) as there:
            await there.attach("c1", got.append)
            await there.associate("c1", USER)
            for number in range(20):
                await here.publish(USER, number)
            await until(lambda: got == list(range(20)), "the events arrive, in order")
            assert here.stats().links == there.stats().links == 1
            assert server.accepted == 4, "a connection for each direction"
        assert server.count("CLIENT", "SETNAME") >= 4, "each has a name, sent again where it came with a HELLO in vain"


async def test_a_publisher_needs_one_connection(redis_url: str, channel: str) -> None:
    got: list[int] = []
    with ScriptedRedis({"HELLO": error("ERR unknown command 'HELLO'")}) as server:
        async with Publisher(server.url) as publisher:
            await publisher.publish(USER, 1)
            await publisher.flush(timeout_s=10)
        assert server.accepted == 1
        assert server.count("SUBSCRIBE") == 0
    async with connect(f"{redis_url}?protocol=2", channel=channel) as pod:
        await pod.attach("c1", got.append)
        await pod.associate("c1", USER)
        async with Publisher(redis_url, connection_kwargs={"protocol": 2}, channel=channel) as publisher:
            await publisher.publish(USER, 1)
        await until(lambda: got == [1], "the event arrives")


async def test_a_password_that_a_proxy_asks_for_first_is_given_by_auth_and_stays_secret() -> None:
    with AsksFirst() as server:
        async with connect(f"redis://:s3cr3t@{server.host}:{server.port}") as pod:
            await pod.publish(USER, 1)
            await pod.flush(timeout_s=10)
        failure = await raised(RedisTransport(f"redis://:wr0ng@{server.host}:{server.port}").open())
        assert type(failure) is AuthenticationError
        assert "wr0ng" not in all_that_is_said(failure)


async def test_a_server_that_names_no_role_is_used_and_a_warning_says_what_that_costs_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with ScriptedRedis(NO_PUBSUB) as server:
        async with connect(server.url) as pod:
            server.cut()
            await until(lambda: pod.stats().links == 2, "the link is replaced")
            assert pod.ready()
        assert server.count("ROLE") == 1, "what is refused is not asked again"
    warnings = [record.getMessage() for record in caplog.records if "primary" in record.getMessage()]
    assert len(warnings) == 1
    assert "does not say whether it is a primary" in warnings[0]


@pytest.mark.parametrize("command", ["SUBSCRIBE", "PUBLISH"])
async def test_a_proxy_that_carries_no_pub_sub_is_an_error_at_once_that_names_the_command(command: str) -> None:
    with ScriptedRedis({**NO_PUBSUB, command: error(f"unsupported command '{command}'")}) as server:
        started = time.monotonic()
        with pytest.raises(TransportError, match=f"it knows no {command}: .*a proxy that carries no pub/sub") as caught:
            async with connect(server.url, connect_timeout_s=60):
                pass
        assert not caught.value.retryable
        assert time.monotonic() - started < 30, "long before the time to connect is over"


async def test_a_user_of_a_real_redis_logs_in_selects_and_is_named_on_both_connections(start: StartServer) -> None:
    server = start(RedisServer(user="pod", password="s3cr3t", query="protocol=2"))
    url = server.url.replace("?", "/3?client_name=pod-7&")
    async with (
        reading_two(url) as (link, heard),
        admin_of(server.url.replace("protocol=2", "protocol=3")) as admin,
    ):
        await link.subscribe(["c"])
        await link.send([("c", b"x")])
        assert await heard.until(1) == [("c", b"x")]
        clients: list[dict[str, str]] = await admin.client_list()
        mine = [client for client in clients if client["name"] == "pod-7"]
        # Redis before 7.0 does not list the protocol.
        assert [(client["db"], client["user"], client.get("resp", "2")) for client in mine] == [("3", "pod", "2")] * 2
        assert sum(client["sub"] != "0" for client in mine) == 1


async def test_the_documented_acl_is_enough_and_a_missing_right_is_named(start: StartServer) -> None:
    rights = "resetchannels &backplane &backplane:* -@all +publish +subscribe +unsubscribe +client|setname"
    server = start(RedisServer(extra=[f"user pod on >pw {rights}", "user few on >pw resetchannels &backplane +@all"]))
    async with connect(f"redis://pod:pw@{server.host}:{server.port}?protocol=2") as pod:
        assert pod.ready()
    with pytest.raises(AuthenticationError, match=r"grant &backplane and &backplane:\*"):
        async with connect(f"redis://few:pw@{server.host}:{server.port}?protocol=2"):
            pass


async def test_a_real_redis_is_spoken_to_in_resp3_unless_resp2_is_asked_for(redis_url: str) -> None:
    link = await RedisTransport(redis_url).open()
    assert isinstance(link, RedisLink)
    await link.aclose()
    for transport in (
        RedisTransport(f"{redis_url}?protocol=2"),
        RedisTransport(redis_url, connection_kwargs={"protocol": 2}),
    ):
        assert not transport.traits.single_stream
        link = await transport.open()
        assert isinstance(link, TwoConnectionLink)
        await link.aclose()
    assert RedisTransport(f"{redis_url}?protocol=3").traits.single_stream


@pytest.mark.parametrize(
    ("make", "url"),
    [(ClusterTransport, "redis-cluster://localhost"), (SentinelTransport, "redis+sentinel://localhost/orders")],
)
async def test_clusters_and_sentinel_need_resp3_and_say_so(make: Any, url: str) -> None:
    make(f"{url}?protocol=3")
    with pytest.raises(ConfigurationError, match=r"needs RESP3: protocol=2 goes with the URL of one server"):
        make(f"{url}?protocol=2")


async def test_a_cluster_whose_nodes_know_no_resp3_is_named() -> None:
    with ScriptedRedis({"HELLO": error("NOPROTO unsupported protocol version")}, mode="cluster") as server:
        failure = await raised(ClusterTransport(server.url.replace("redis:", "redis-cluster:")).open())
        assert "it knows no RESP3 (HELLO 3), which clusters" in str(failure)
        assert not failure.retryable


async def test_what_kind_of_server_it_is_shows_without_hello(start: StartServer) -> None:
    replica = start(RedisServer(query="protocol=2", extra=["replicaof 127.0.0.1 1"]))
    failure = await raised(RedisTransport(replica.url).open())
    assert "it is a replica" in str(failure)
    node = start(RedisServer(query="protocol=2", extra=["cluster-enabled yes"]))
    async with admin_of(node.url) as admin:
        await admin.execute_command("CLUSTER", "ADDSLOTS", *range(16_384))
    async with reading_two(node.url) as (link, heard):
        await link.subscribe(["c"])
        await link.send([("c", b"x")])
        assert await heard.until(1) == [("c", b"x")]
    with ScriptedRedis({"ROLE": b"*1\r\n$8\r\nsentinel\r\n"}) as sentinel:
        failure = await raised(RedisTransport(f"{sentinel.url}?protocol=2").open())
        assert "connect with redis+sentinel://" in str(failure)
        assert not failure.retryable


@pytest.mark.parametrize("kind", ["pubsub", "normal"])
async def test_the_death_of_either_connection_is_the_links(redis_server: OwnBroker, kind: str) -> None:
    async with reading_two(f"{redis_server.url}?protocol=2") as (link, heard), admin_of(redis_server.url) as admin:
        await link.subscribe(["c"])
        assert await admin.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes") == 1
        assert "the server closed the connection" in str(await heard.death())
        for call in (link.send([("c", b"x")]), link.subscribe(["d"]), link.unsubscribe(["c"])):
            assert "is dead" in str(await raised(call))


@pytest.mark.usefixtures("read_path")
async def test_a_gap_begins_at_the_last_echo_and_not_at_the_last_beat(redis_server: OwnBroker, channel: str) -> None:
    got: list[int] = []
    gaps: list[Gap] = []
    url = f"{redis_server.url}?protocol=2"
    async with (
        connect(url, channel=channel) as here,
        connect(url, channel=channel, probe_interval_s=600, beat_s=0.2) as there,
        admin_of(redis_server.url) as admin,
    ):
        await there.attach("c1", got.append, on_gap=gaps.append)
        await there.associate("c1", USER)
        link = live_link(there)
        began, mark = time.monotonic(), time.time()
        while heard_until(link) < began:  # it publishes nothing, and beats once in ten minutes
            await here.publish(USER, len(got))
            await asyncio.sleep(0.01)
        await admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: there.stats().links == 2 and bool(gaps), "the link is replaced")
        assert gaps[0].since >= mark - 1


async def test_an_event_that_takes_long_to_be_taken_is_not_passed_over_by_an_echo(redis_url: str, channel: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        link = await RedisTransport(f"{redis_url}?protocol=2").open()
    assert isinstance(link, TwoConnectionLink)
    lists = link.receive()
    subscribing = asyncio.create_task(link.subscribe([channel]))
    first = asyncio.ensure_future(anext(lists))
    await subscribing
    sent_at = time.monotonic()
    await link.send([(channel, b"1")])
    assert await first == [(channel, b"1")]
    await asyncio.sleep(0.05)  # the echo went out in front of it
    assert heard_until(link) <= sent_at, "the list is not taken yet"
    second = asyncio.ensure_future(anext(lists))
    await asyncio.sleep(0)
    assert heard_until(link) >= sent_at
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    await link.aclose()


def test_an_echo_counts_once_what_came_before_it_is_taken() -> None:
    echo = Echo("backplane:@1", heard_at=5.0)
    assert echo.is_due(10.0)
    echo.asked(10.0)
    assert not echo.is_due(11.0), "one is on its way"
    echo.taken()
    assert echo.heard_at == 5.0
    echo.arrived()
    assert echo.heard_at == 5.0, "what came in front of it waits to be taken"
    echo.taken()
    assert echo.heard_at == 10.0
    assert not echo.is_due(10.0 + ECHO_EVERY_S / 2)
    assert echo.is_due(10.0 + ECHO_EVERY_S)
    echo.arrived()  # forged, or late: nothing was asked
    echo.taken()
    assert echo.heard_at == 10.0


async def test_credentials_are_renewed_where_that_is_possible_and_nothing_is_logged(
    start: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    server = start(RedisServer(user="pod", password="s3cr3t"))
    options = {
        "protocol": 2,
        "credential_provider": UsernamePasswordCredentialProvider("pod", "s3cr3t"),
        "renew_credentials_s": 0.2,
    }
    bare = f"redis://{server.host}:{server.port}"
    async with reading_two(bare, **options) as (link, heard), admin_of(server.url) as admin:
        await link.subscribe(["c"])

        async def renewals() -> int:
            return int((await admin.info("commandstats")).get("cmdstat_auth", {}).get("calls", 0))

        wanted = await renewals() + 2
        async with asyncio.timeout(DEADLINE_S):
            while await renewals() < wanted:  # noqa: ASYNC110 -- the server knows, and tells no event
                await asyncio.sleep(0.02)
        await link.send([("c", b"x")])
        assert await heard.until(1) == [("c", b"x")]
    assert caplog.records == []
