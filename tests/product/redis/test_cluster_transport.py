"""From a URL to a link to a Redis Cluster, and what is said when that can't be."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from backplane_core import AuthenticationError, ConfigurationError, Link, Target, Transport, connect_from_env
from backplane_redis import ClusterTransport
from backplane_testservers import RedisCluster, RedisServer, free_port
from backplane_testservers.streams import serve
from backplane_testservers.tls import Certificates

from tests.conftest import StartServer, available
from tests.product.redis.reading import DEADLINE_S, all_that_is_said, raised, reading_cluster

pytestmark = pytest.mark.usefixtures("leaves_nothing")

SECRET = "s3cr3t,p@ss"
QUOTED = "s3cr3t%2Cp%40ss"
RIGHTS = "on >pw resetchannels &mine &mine:* -@all +spublish +ssubscribe +sunsubscribe +client|setname"
USERS = {
    "pod": "%R~mine %R~mine:* +exists +cluster|slots",
    "blind": "%R~mine %R~mine:* +exists",
    "keyless": "+cluster|slots",
}


@pytest.fixture(scope="module")
def guarded() -> Iterator[RedisCluster]:
    """A cluster of one node that wants a password, and has users with few rights."""
    with available(
        RedisCluster(
            masters=1, password=SECRET, extra=[f"user {user} {RIGHTS} {rights}" for user, rights in USERS.items()]
        )
    ) as cluster:
        yield cluster


def as_user(cluster: RedisCluster, user: str) -> str:
    return f"redis-cluster://{user}:pw@{cluster.host}:{cluster.port}"


async def round_trip(url: str, channel: str = "mine:1", **options: Any) -> None:
    async with reading_cluster(url, **options) as (link, heard):
        await link.subscribe([channel])
        await link.send([(channel, b"1")])
        assert await heard.until(1) == [(channel, b"1")]
        await link.unsubscribe([channel])


async def test_the_transport_is_what_core_asks_for_and_makes_no_promise_of_one_stream() -> None:
    transport = ClusterTransport("redis-cluster://localhost")
    assert isinstance(transport, Transport)
    assert transport.traits.confirms
    assert not transport.traits.single_stream


async def test_any_node_that_answers_will_do(shared_redis_cluster: RedisCluster, channel: str) -> None:
    nodes = [f"{node.host}:{node.port}" for node in shared_redis_cluster.nodes]
    for scheme in ("redis-cluster", "valkey-cluster", "REDIS-CLUSTER"):
        await round_trip(f"{scheme}://{nodes[0]}", channel)
    await round_trip(f"redis-cluster://127.0.0.1:{free_port()},{nodes[2]}", channel)
    await round_trip(
        f"redis-cluster://127.0.0.1:{free_port()},localhost:{shared_redis_cluster.port}/?client_name=pod-7", channel
    )


async def test_the_nodes_that_were_found_are_asked_when_those_of_the_url_are_gone(
    start: StartServer, channel: str
) -> None:
    cluster = start(RedisCluster(masters=2))
    transport = ClusterTransport(cluster.url_of(cluster.nodes[0]))
    await (await transport.open()).aclose()
    await asyncio.to_thread(cluster.nodes[0].kill)
    async with asyncio.timeout(DEADLINE_S):
        link = await transport.open()
    error = await raised(link.subscribe([f"{channel}:{n}" for n in range(64)]))
    assert error.retryable
    assert f"127.0.0.1:{cluster.nodes[0].port}" in str(error)
    assert "is the server running" in str(error) or "CLUSTERDOWN" in str(error)
    await link.aclose()


async def test_each_open_asks_another_node_first_since_ones_view_may_be_old(shared_redis_cluster: RedisCluster) -> None:
    gone = free_port()
    transport = ClusterTransport(
        f"redis-cluster://127.0.0.1:{gone},{shared_redis_cluster.host}:{shared_redis_cluster.port}"
    )
    asked: list[Any] = []
    for _ in range(6):
        link: Any = await transport.open()
        asked += [node.address for node in link._nodes]
        await link.aclose()
    assert len(set(asked[-3:])) == 3
    assert sorted(transport._seeds._askable) == sorted([("127.0.0.1", gone), *set(asked)])


async def test_the_environment_names_it_by_its_scheme(shared_redis_cluster: RedisCluster, channel: str) -> None:
    for kind in ("redis-cluster", "valkey-cluster"):
        env = {"BACKPLANE": kind, "BACKPLANE_URL": shared_redis_cluster.url, "BACKPLANE_CHANNEL": channel}
        async with connect_from_env(env) as pod:
            await pod.publish(Target.user("u1"), 1)
    async with connect_from_env(
        {"BACKPLANE": "redis-cluster", "BACKPLANE_REDIS_CLUSTER_URL": shared_redis_cluster.url}
    ):
        pass
    with pytest.raises(ConfigurationError, match="disagree: redis takes"):
        connect_from_env({"BACKPLANE": "redis", "BACKPLANE_URL": shared_redis_cluster.url})


async def test_tls_reaches_the_nodes_that_were_found_too(
    start: StartServer, certificates: Certificates, channel: str
) -> None:
    cluster = start(RedisCluster(masters=1, tls=certificates.server))
    ca = str(certificates.server.ca)
    await round_trip(f"{cluster.url}?ssl_ca_certs={ca}", channel)
    await round_trip(cluster.url.replace("rediss-", "valkeys-"), channel, ssl_ca_certs=ca)


async def test_a_user_needs_no_more_rights_than_the_readme_says(guarded: RedisCluster) -> None:
    await round_trip(guarded.url)
    await round_trip(as_user(guarded, "pod"))


async def test_wrong_passwords_and_missing_rights_are_told_without_the_password(guarded: RedisCluster) -> None:
    address = f"{guarded.host}:{guarded.port}"
    for login in (f":{QUOTED}wrong@", f"nobody:{QUOTED}@", ""):
        transport = ClusterTransport(f"redis-cluster://{login}{address}")
        error = await raised(transport.open())
        assert type(error) is AuthenticationError
        assert "s3cr3t" not in all_that_is_said(error) + repr(transport)
    error = await raised(ClusterTransport(as_user(guarded, "blind")).open())
    assert type(error) is AuthenticationError
    assert "+cluster|slots" in str(error)
    async with reading_cluster(as_user(guarded, "keyless")) as (link, _):
        error = await raised(link.subscribe(["mine"]))
        assert "the user lacks +exists or a key pattern like %R~mine" in str(error)
    for call in ("subscribe", "send"):
        async with reading_cluster(as_user(guarded, "pod")) as (link, _):
            error = await raised(link.subscribe(["theirs"]) if call == "subscribe" else link.send([("theirs", b"x")]))
            assert "on channel 'theirs' was refused (NOPERM)" in str(error)
            assert "&theirs" in str(error)


async def send_on(link: Link) -> None:
    """Send until that fails: a node that is down takes it all the same, so it is asked now and then."""
    while True:
        await link.send([("mine", b"")])
        await asyncio.sleep(0.05)


async def test_a_cluster_that_has_lost_slots_says_so_and_is_tried_again(guarded: RedisCluster) -> None:
    node = guarded.nodes[0]
    async with reading_cluster(guarded.url) as (link, heard):
        await link.subscribe(["mine"])
        node.execute("CLUSTER DELSLOTS", "0")
        try:
            error = await raised(send_on(link))
            async with reading_cluster(guarded.url) as (another, _):
                again = await raised(another.subscribe(["mine"]))
        finally:
            node.execute("CLUSTER ADDSLOTS", "0")
        assert "EXISTS on channel 'mine' was refused (CLUSTERDOWN): a master is down" in str(error)
        assert "CLUSTERDOWN" in str(again)
        assert error.retryable
        assert str(await heard.death()) == str(error)
    guarded.wait_until(guarded.is_healthy, "the slot is back")


async def test_a_server_that_is_in_no_cluster_is_refused_for_good(
    start: StartServer, shared_redis_cluster: RedisCluster
) -> None:
    server = start(RedisServer(binary=shared_redis_cluster.nodes[0].binary))
    error = await raised(ClusterTransport(server.url.replace("redis://", "redis-cluster://")).open())
    assert not error.retryable
    assert "not in cluster mode" in str(error)


@pytest.fixture
async def old_server() -> AsyncIterator[str]:
    """What a Redis 6.2 in cluster mode answers to a greeting."""
    hello = b"%3\r\n+proto\r\n:3\r\n$7\r\nversion\r\n$6\r\n6.2.14\r\n$4\r\nmode\r\n$7\r\ncluster\r\n"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line.strip() in {b"HELLO", b"SETNAME", b"SLOTS", b"SETINFO"}:
                writer.write(hello if line.strip() == b"HELLO" else b"+OK\r\n")

    async with serve(talk) as port:
        yield f"127.0.0.1:{port}"


async def test_a_server_before_7_is_refused_for_good(old_server: str) -> None:
    error = await raised(ClusterTransport(f"redis-cluster://{old_server}?client_name=old").open())
    assert not error.retryable
    assert "has version 6.2.14: sharded pub/sub needs Redis or Valkey 7" in str(error)


async def test_a_node_that_answers_nothing_leaves_time_to_ask_another(
    shared_redis_cluster: RedisCluster, channel: str
) -> None:
    there = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there.set()
        while await reader.read(1024):
            pass

    async with serve(say_nothing) as port:
        await round_trip(
            f"redis-cluster://127.0.0.1:{port},{shared_redis_cluster.host}:{shared_redis_cluster.port}", channel
        )
        assert there.is_set()
        error = await raised(ClusterTransport(f"redis-cluster://127.0.0.1:{port}").open())
        assert error.retryable
        assert "no answer in time" in str(error)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://localhost", "must start with redis-cluster://"),
        ("s3cr3t", "must start with redis-cluster://"),
        ("redis-cluster://", "malformed: it must hold a host"),
        ("redis-cluster://localhost,", "malformed: it must hold a host"),
        ("redis-cluster://:s3cr3t@localhost,:s3cr3t@other", "percent-encode"),
        ("redis-cluster://localhost:6379,localhost:port", "port, behind its colon, is a number from 1 to 65535"),
        ("redis-cluster://localhost:0", "port, behind its colon, is a number from 1 to 65535"),
        ("redis-cluster://user:s3cr3t/2@localhost", "percent-encode"),
        ("redis-cluster://user:s3cr3t?2@localhost", "percent-encode"),
        ("redis-cluster://user:s3cr3t#2@localhost", "percent-encode"),
        ("redis-cluster://localhost/1", "no path: a cluster has one database"),
        ("redis-cluster://localhost/zero", "no path"),
        ("redis-cluster://localhost?db=1", "no option 'db'"),
        ("redis-cluster://localhost?timeout=s3cr3t", "no option 'timeout'"),
        ("redis-cluster://localhost?ssl_ca_certs=/x", "with rediss"),
        ("rediss-cluster://:s3cr3t@localhost?ssl_ca_certs=/no/such/file", "No such file"),
    ],
)
def test_a_wrong_url_is_refused_at_once_with_what_is_allowed_and_no_secret(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ClusterTransport(url)
    assert says in str(caught.value)
    assert caught.value.__context__ is None
    assert "s3cr3t" not in f"{caught.value} {caught.value!r}"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"redis-cluster://pod:{QUOTED}@a:6380,b", "redis-cluster://pod:***@a:6380,b:6379"),
        (f"valkeys-cluster://{QUOTED}@[::1]:7000", "valkeys-cluster://***@[::1]:7000"),
        (f"redis-cluster://a?password={QUOTED}", "redis-cluster://a:6379"),
    ],
)
def test_a_transport_shows_its_hosts_without_secrets(url: str, shown: str) -> None:
    assert repr(ClusterTransport(url)) == f"ClusterTransport('{shown}')"
