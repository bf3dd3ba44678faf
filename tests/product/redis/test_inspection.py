"""What a server says of itself to those who operate it, and which of its settings a fleet should know."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from backplane_core import AuthenticationError, InspectableTransport, TransportError
from backplane_redis import ClusterTransport, RedisTransport, SentinelTransport, StreamsTransport
from backplane_redis._greeting import Greeting
from backplane_redis._inspection import judge
from backplane_redis._url import RedisUrl
from backplane_testservers import BrokerUnavailable, OwnBroker, RedisCluster, RedisServer, free_port
from backplane_testservers.scripted import HANG_UP
from backplane_testservers.scripted_redis import ScriptedRedis
from backplane_testservers.sentinels import SentinelSet

from tests.conftest import StartServer, skip_or_fail
from tests.support.redis_admin import execute

REDIS = Greeting(server="redis", version="7.0.15", mode="standalone", role="master", is_resp3=True)


@pytest.mark.parametrize(
    ("fields", "buffers", "said"),
    [
        ({}, "normal 0 0 0 pubsub 33554432 8388608 60", []),
        ({}, "normal 0 0 0 pubsub 0 0 0", ["pubsub 32mb 8mb 60"]),
        ({}, "pubsub 1048576 0 0", ["1048576 bytes behind"]),
        ({}, "pubsub 33554432 65536 1", ["65536 bytes behind for 1 s"]),
        ({}, "whatever", []),
        ({"connected_clients": "95", "maxclients": "100"}, "", ["raise maxclients"]),
        ({"connected_clients": "85", "maxclients": "100"}, "", []),
        ({"used_memory": "98000000", "maxmemory": "100000000"}, "", ["raise maxmemory"]),
        ({"used_memory": "98000000", "maxmemory": "0"}, "", []),
    ],
)
def test_a_setting_under_which_a_fleet_can_count_on_less_is_named(
    fields: Mapping[str, str], buffers: str, said: list[str]
) -> None:
    advice = list(judge(REDIS, fields, buffers, is_log=False))
    assert len(advice) == len(said)
    assert all(part in text for part, text in zip(said, advice, strict=True))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, []),
        ({"role": "master", "connected_slaves": "0"}, ["no replica"]),
        ({"role": "master", "connected_slaves": "1"}, ["set min-replicas-to-write 1"]),
        ({"role": "master", "connected_slaves": "1", "min_slaves_good_slaves": "1"}, []),
        ({"role": "master", "connected_slaves": "1", "min_slaves_good_slaves": "0"}, ["takes no writes now"]),
        (
            {"role": "master", "connected_slaves": "0", "min_slaves_good_slaves": "0"},
            ["no replica", "takes no writes now"],
        ),
        ({"role": "slave", "connected_slaves": "0", "master_link_status": "up"}, ["once it has taken over"]),
        ({"role": "slave", "connected_slaves": "0", "min_slaves_good_slaves": "0"}, []),
        (
            {"role": "slave", "master_link_status": "down", "min_slaves_good_slaves": "0"},
            ["has lost its primary"],
        ),
        ({"role": "slave", "aof_enabled": "0", "min_slaves_good_slaves": "0"}, ["set appendonly yes"]),
    ],
)
def test_what_a_log_needs_of_a_node_that_takes_over_is_named(fields: Mapping[str, str], said: list[str]) -> None:
    advice = list(judge(REDIS, fields, "", is_log=True, is_replicated=True))
    assert len(advice) == len(said)
    assert all(part in text for part, text in zip(said, advice, strict=True))


@pytest.mark.parametrize(
    ("greeting", "said"),
    [
        (Greeting(server="valkey", version="9.1.1"), "9.1.2"),
        (Greeting(server="redis", version="6.0.16"), "6.2"),
    ],
)
def test_a_version_with_a_flaw_is_named(greeting: Greeting, said: str) -> None:
    (advice,) = judge(greeting, {}, "", is_log=False)
    assert said in advice


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://db.example", ["user of their own", "use rediss://"]),
        ("redis://:pw@db.example", ["use rediss://"]),
        ("valkeys://db.example", ["user of their own"]),
        ("rediss://:pw@db.example", []),
        ("redis://localhost", []),
        ("redis://127.1.2.3", []),
        ("redis://[::1]", []),
        ("unix:///run/redis.sock", []),
    ],
)
def test_a_server_that_lets_everybody_in_is_named_unless_it_is_on_this_machine(url: str, said: list[str]) -> None:
    parsed = RedisUrl.parse(url)
    advice = RedisTransport(url)._connector.access(parsed.hosts[0] if parsed.hosts else None).advice
    assert len(advice) == len(said)
    assert all(part in text for part, text in zip(said, advice, strict=True))


async def test_a_server_says_what_it_is(redis_server: OwnBroker, leaves_nothing: None) -> None:
    transport = RedisTransport(redis_server.url)
    assert isinstance(transport, InspectableTransport)
    report = await transport.inspect()
    assert re.match(r"(Redis|Valkey) [0-9]+\.[0-9]+\.[0-9]+ at ", report.server)
    assert redis_server.url.rpartition("/")[2] in report.server
    assert (report.advice, report.unasked) == ([], [])
    execute(redis_server.url, "CONFIG", "SET", "client-output-buffer-limit", "pubsub 0 0 0")
    (advice,) = (await transport.inspect()).advice
    assert "set pubsub 32mb 8mb 60" in advice


async def test_what_a_user_may_not_ask_is_named_with_what_to_grant(start: StartServer) -> None:
    server = start(RedisServer(password="pw"))
    rights = ("&*", "+hello", "+auth", "+client", "+subscribe")
    execute(server.url, "ACL", "SETUSER", "pod", "on", ">pw", *rights)
    report = await RedisTransport(server.url.replace(":pw@", "pod:pw@")).inspect()
    assert [text.partition("grant ")[2] for text in report.unasked] == ["+info", "+config|get"]
    with pytest.raises(AuthenticationError):
        await RedisTransport(server.url.replace(":pw@", ":no@")).inspect()


async def test_a_server_that_is_not_there_or_hangs_up_is_a_transport_error() -> None:
    with pytest.raises(TransportError, match="nothing listens"):
        await RedisTransport(f"redis://127.0.0.1:{free_port()}").inspect()
    with ScriptedRedis({"CONFIG GET": HANG_UP, "INFO": b"$0\r\n\r\n"}) as server:
        with pytest.raises(TransportError, match="closed the connection"):
            await RedisTransport(server.url).inspect()
        assert server.count("CONFIG", "GET") == 1


async def test_over_streams_what_a_log_needs_is_looked_at(redis_url: str) -> None:
    report = await StreamsTransport(redis_url.replace("://", "+streams://", 1)).inspect()
    assert any("appendonly" in advice for advice in report.advice)


async def test_each_node_of_a_cluster_is_asked(shared_redis_cluster: RedisCluster, leaves_nothing: None) -> None:
    node = shared_redis_cluster.nodes[-1].url
    execute(node, "CONFIG", "SET", "client-output-buffer-limit", "pubsub 0 0 0")
    try:
        report = await ClusterTransport(shared_redis_cluster.url).inspect()
    finally:
        execute(node, "CONFIG", "SET", "client-output-buffer-limit", "pubsub 32mb 8mb 60")
    assert f"a cluster of {len(shared_redis_cluster.nodes)} nodes" in report.server
    (advice,) = report.advice
    assert str(shared_redis_cluster.nodes[-1].port) in advice


async def test_of_sentinels_the_master_is_asked(leaves_nothing: None) -> None:
    try:
        with SentinelSet(replicas=0, sentinels=1) as sentinels:
            report = await SentinelTransport(sentinels.url).inspect()
            assert str(sentinels.master.port) in report.server
    except BrokerUnavailable as error:
        skip_or_fail(error)
