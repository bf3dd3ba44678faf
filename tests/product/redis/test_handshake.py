"""What a server refuses in the handshake, and what the error says of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from backplane_core import AuthenticationError, Gap, Proven, Target, TransportError, connect
from backplane_redis import ClusterTransport, RedisTransport, SentinelTransport
from backplane_redis._link import RedisLink
from backplane_testservers import HANG_UP, USUAL, NatsServer, RedisServer, ScriptedRedis
from backplane_testservers.scripted import Answer
from backplane_testservers.scripted_redis import error
from backplane_testservers.tls import Certificates

from tests.conftest import StartServer
from tests.product.redis.reading import admin_of, all_that_is_said, raised, reading
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("leaves_nothing")

HELLO_2 = b"*6\r\n+server\r\n+redis\r\n+version\r\n+7.4.0\r\n+proto\r\n:2\r\n"

NO_RESP3: Mapping[str, Answer] = {
    "no HELLO": error("ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 's3cr3t'"),
    "no HELLO, as Envoy says it": error("unsupported command 'HELLO'"),
    "RESP3 off": error("NOPROTO unsupported protocol version"),
    "no options": error("ERR syntax error"),
    "RESP2 all the same": HELLO_2,
}

# By what is scripted: the login, the database, what the error says, and whether trying again can help.
REFUSALS: Mapping[str, tuple[Mapping[str, Answer | Sequence[Answer]], str, str, bool]] = {
    **{
        f"{name}, and RESP3 is needed": ({"HELLO": answer}, "user:s3cr3t@", "knows no RESP3", False)
        for name, answer in NO_RESP3.items()
    },
    "no user names": (
        {
            "HELLO": error("ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `user`, `s3cr3t`"),
            "AUTH": error("ERR wrong number of arguments for 'auth' command"),
        },
        "user:s3cr3t@",
        "knows no user names",
        False,
    ),
    "closes on HELLO": ({"HELLO": HANG_UP}, "", "a proxy that knows no HELLO", True),
    "protected mode": ({"HELLO": error("DENIED Redis is running in protected mode")}, "", "protected mode", False),
    "maxclients": ({"HELLO": error("ERR max number of clients reached")}, "", "maxclients", True),
    "loading": ({"HELLO": error("LOADING Redis is loading the dataset")}, "", "is loading its data", True),
    "busy": ({"CLIENT": error("BUSY Redis is busy running a script")}, "", "a script of another client", True),
    "master down": ({"CLIENT": error("MASTERDOWN Link with MASTER is down")}, "", "lost its master", True),
    "try again": ({"CLIENT": error("TRYAGAIN Multiple keys request")}, "", "TRYAGAIN", True),
    "cluster down": ({"HELLO": error("CLUSTERDOWN Hash slot not served")}, "", "cluster is down", True),
    "no such code": ({"HELLO": error("QUOTA s3cr3t")}, "", r"refused HELLO \(QUOTA\)", True),
    "no code": ({"HELLO": error("s3cr3t")}, "", "refused HELLO", True),
}
LOGINS: Mapping[str, tuple[str, str, str]] = {
    "no password given": ("NOAUTH HELLO must be called with the client already authenticated", "", "none was given"),
    "wrong password": ("WRONGPASS invalid username-password pair", ":s3cr3t@", "user name or password is wrong"),
    "no password set": ("ERR Client sent AUTH, but no password is set", ":s3cr3t@", "has no password"),
}


@pytest.mark.parametrize(("table", "login", "says", "retryable"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_a_refusal_is_named_with_its_address_and_quotes_nothing(
    request: pytest.FixtureRequest,
    table: Mapping[str, Answer | Sequence[Answer]],
    login: str,
    says: str,
    *,
    retryable: bool,
) -> None:
    query = "?protocol=3" if "is needed" in request.node.name else ""
    with ScriptedRedis(table) as server:
        failure = await raised(RedisTransport(f"redis://{login}{server.host}:{server.port}{query}").open())
        assert type(failure) is (AuthenticationError if "user names" in says else TransportError)
        assert failure.retryable is retryable
        assert re.search(f":{server.port}.*{says}", str(failure))
        assert "s3cr3t" not in all_that_is_said(failure)
        assert "Valkey" not in str(failure)


@pytest.mark.parametrize(("reply", "login", "says"), LOGINS.values(), ids=LOGINS.keys())
async def test_refused_credentials_are_named(reply: str, login: str, says: str) -> None:
    with ScriptedRedis({"HELLO": error(reply)}) as server:
        failure = await raised(RedisTransport(f"redis://{login}{server.host}:{server.port}").open())
        assert type(failure) is AuthenticationError
        assert says in str(failure)
        assert "s3cr3t" not in all_that_is_said(failure)


@pytest.mark.parametrize(
    "reply",
    ["ERR unknown command 'client'", "ERR unknown subcommand 'SETNAME'", "NOPERM no permissions to run 'client'"],
)
async def test_a_name_that_may_not_be_set_is_left_out_and_nothing_else_is_sent(reply: str) -> None:
    with ScriptedRedis({"CLIENT": error(reply), "CLIENT SETINFO": HANG_UP}) as server:
        async with connect(server.url) as pod:
            await pod.publish(Target.user("u1"), 1)
            await pod.flush(timeout_s=10)
        assert server.count("CLIENT", "SETNAME") == 1
        assert server.count("CLIENT") == 1


BUSY = error("BUSY Valkey is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.")


async def test_a_server_that_lets_clients_in_while_it_is_busy_is_asked_for_its_role_again() -> None:
    # As Valkey 9 does. Taken for a missing right, it would leave everything that is sent there in doubt, for ever.
    with ScriptedRedis({"ROLE": [BUSY, USUAL]}, server="valkey", version="9.1.2") as server:
        transport = RedisTransport(server.url)
        failure = await raised(transport.open())
        assert failure.retryable
        assert re.search(f":{server.port}.*a script of another client", str(failure))
        link = await transport.open()
        assert isinstance(link, RedisLink)
        assert link.proven() == Proven(received_until=None, replicated_until=None)
        await link.aclose()
        assert server.count("ROLE") == 2


@pytest.mark.parametrize(("question", "transport"), [("CLUSTER INFO", "redis"), ("CLUSTER SLOTS", "redis-cluster")])
async def test_a_busy_node_of_a_cluster_is_no_reason_to_doubt_rights_or_setup(question: str, transport: str) -> None:
    with ScriptedRedis({question: BUSY}, server="valkey", version="9.1.2", mode="cluster") as server:
        kind = RedisTransport if transport == "redis" else ClusterTransport
        failure = await raised(kind(f"{transport}://{server.host}:{server.port}").open())
        assert failure.retryable
        assert re.search(f":{server.port}.*a script of another client", str(failure))
        assert server.count(*question.split()) == 1


async def test_a_database_that_is_not_there_and_one_of_a_cluster_are_named(start: StartServer) -> None:
    server = start(RedisServer())
    failure = await raised(RedisTransport(f"{server.url}/99").open())
    assert not failure.retryable
    assert "it has no database 99" in str(failure)
    node = start(RedisServer(extra=["cluster-enabled yes"]))
    failure = await raised(RedisTransport(f"{node.url}/1").open())
    assert not failure.retryable
    assert "a node of a cluster" in str(failure) or "it has no database 1" in str(failure)  # Valkey 9 may have several
    failure = await raised(RedisTransport(node.url).open())
    assert "belongs to no cluster" in str(failure)


async def test_the_wrong_kind_of_server_is_named_with_the_url_that_it_wants(start: StartServer) -> None:
    server = start(RedisServer())
    failure = await raised(ClusterTransport(server.url.replace("redis:", "redis-cluster:")).open())
    assert "connect with redis://" in str(failure)
    failure = await raised(SentinelTransport(f"redis+sentinel://{server.host}:{server.port}/orders").open())
    assert "there is no sentinel at" in str(failure)
    assert "connect with redis://" in str(failure)
    with ScriptedRedis(mode="sentinel") as sentinel:
        for failure in (
            await raised(RedisTransport(sentinel.url).open()),
            await raised(ClusterTransport(sentinel.url.replace("redis:", "redis-cluster:")).open()),
        ):
            assert not failure.retryable
            assert "it is a sentinel: connect with redis+sentinel://" in str(failure)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it speaks HTTP"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH"),
        (b'INFO {"server_id":"x"}\r\n', "connect with nats://"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "connect with rediss://"),
        (b"\x00\x01", "not the Redis protocol"),
        (b"+OK ready\r\n", "not the Redis protocol"),
    ],
)
async def test_a_server_that_is_no_redis_is_named(said: bytes, says: str) -> None:
    with ScriptedRedis({"HELLO": said}) as server:
        failure = await raised(RedisTransport(server.url).open())
        assert says in str(failure)
        assert not failure.retryable
        assert f":{server.port}" in str(failure)


async def test_a_real_nats_server_and_a_real_tls_port_are_named(start: StartServer, certificates: Certificates) -> None:
    nats = start(NatsServer())
    failure = await raised(RedisTransport(f"redis://{nats.host}:{nats.port}").open())
    assert "it is a NATS server" in str(failure)
    tls = start(RedisServer(tls=certificates.server))
    failure = await raised(RedisTransport(f"redis://{tls.host}:{tls.port}").open())
    assert "rediss://" in str(failure)


async def test_what_makes_no_sense_on_a_link_is_put_down_to_valkey_only_where_that_may_be() -> None:
    for server, version, blamed in (("redis", "7.4.0", False), ("valkey", "9.1.2", False), ("valkey", "9.1.1", True)):
        with ScriptedRedis({"PUBLISH": b"$1\r\nx\r\n"}, server=server, version=version) as stand_in:
            async with reading(stand_in.url) as (link, _):
                failure = await raised(link.send([("c", b"x")]))
                assert ("Valkey" in str(failure)) is blamed


async def test_a_pod_is_back_soon_after_a_script_that_kept_the_server_busy(start: StartServer) -> None:
    server = start(RedisServer(extra=["lua-time-limit 100"]))
    script = "local t = redis.call('TIME')[1]; while redis.call('TIME')[1] - t < 4 do end"
    got: list[int] = []
    gaps: list[Gap] = []
    async with connect(server.url) as pod, connect(server.url) as other, admin_of(server.url) as admin:
        await other.attach("c1", got.append, on_gap=gaps.append)
        await other.associate("c1", Target.user("u1"))
        running: asyncio.Task[Any] = asyncio.create_task(admin.eval(script, 0))
        refused: TransportError | None = None
        while refused is None or "script" not in str(refused):
            refused = None
            try:
                await (await RedisTransport(f"{server.url}/1").open()).aclose()
            except TransportError as failure:
                refused = failure
            assert not running.done(), "it was busy long enough to be seen"
        assert refused.retryable
        await pod.publish(Target.user("u1"), 1)
        await running
        ended = asyncio.get_running_loop().time()
        await until(lambda: got or gaps, "the event arrives, or lies in a gap: the other pod was refused as well")
        await until(lambda: (pod.state, other.state) == ("live", "live"), "both are live again")
        assert asyncio.get_running_loop().time() - ended < 20, "and not after the waits of refused credentials"
        await pod.publish(Target.user("u1"), 2)
        await until(lambda: got[-1:] == [2], "the next event arrives")
        assert got in ([1, 2], [2])
