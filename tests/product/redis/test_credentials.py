"""Credentials that expire: live links authenticate again, and no provider holds the loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
import redis
from attrs import define, field
from backplane_core import BaseBackplane, ConfigurationError, Target, connect
from backplane_testservers import RedisCluster, RedisServer, SentinelSet
from redis.credentials import CredentialProvider, StreamingCredentialProvider

from tests.conftest import StartServer
from tests.support.sockets import attach
from tests.support.waiting import until

USER = Target.user("u1")
SECRET, NEXT = "the-first-token", "the-next-token"


@define
class Token:
    """As redis-py's own tokens."""

    value: str

    def try_get(self, key: str) -> str:
        assert key == "oid"
        return "default"

    def get_value(self) -> str:
        return self.value


@define(eq=False)
class Tokens(StreamingCredentialProvider):
    """A provider that announces tokens when a test says so, in a thread of its own."""

    value: str = SECRET
    listeners: list[Callable[[Any], None]] = field(factory=list[Callable[[Any], None]])
    on_failure: list[Callable[[Exception], None]] = field(factory=list[Callable[[Exception], None]])

    def get_credentials(self) -> tuple[str, str]:
        return ("default", self.value)

    def on_next(self, callback: Callable[[Any], None]) -> None:
        self.listeners.append(callback)

    def on_error(self, callback: Callable[[Exception], None]) -> None:
        self.on_failure.append(callback)

    def is_streaming(self) -> bool:
        return True

    def announce(self, token: object) -> None:
        (listener,) = self.listeners
        thread = threading.Thread(target=listener, args=(token,))
        thread.start()
        thread.join()


@define(eq=False)
class Plain(CredentialProvider):
    """A provider that announces nothing, and may be held."""

    value: str = SECRET
    held: threading.Event | None = None
    asked: int = 0
    fails: bool = False

    def get_credentials(self) -> tuple[str, str]:
        self.asked += 1
        if self.held is not None:
            assert self.held.wait(30)
        if self.fails and self.asked > 1:
            raise LookupError(self.value)
        return ("default", self.value)


@pytest.fixture
def server(start: StartServer) -> RedisServer:
    return start(RedisServer(password=SECRET))


def execute(server: RedisServer, *command: str) -> Any:
    untyped: Any = redis  # as far as a strict checker sees
    # In RESP3 it logs in by HELLO, so that each AUTH is a link's.
    with untyped.Redis(server.host, server.port, password=server.password, protocol=3) as client:
        return client.execute_command(*command)


def renewals(server: RedisServer) -> int:
    """How many AUTH the server took."""
    stats = cast("dict[str, Any]", execute(server, "INFO", "commandstats"))
    return int(stats.get("cmdstat_auth", {}).get("calls", 0))


def url_of(server: RedisServer) -> str:
    return f"redis://{server.host}:{server.port}"


async def check_renewed(pod: BaseBackplane, tokens: Tokens, *servers: RedisServer) -> None:
    """A live pod takes the next token, and misses nothing."""
    gaps: list[Any] = []
    pod.on_gap = gaps.append
    socket = await attach(pod, "c1", USER)
    for server in servers:
        execute(server, "ACL", "SETUSER", "default", f">{NEXT}")
    tokens.value = NEXT
    tokens.announce(Token(NEXT))
    await until(lambda: sum(map(renewals, servers)), "an AUTH on the live link")
    await pod.publish(USER, "still here")
    await pod.flush(timeout_s=10)
    assert await socket.has(1) == ["still here"]
    assert pod.stats().links == 1
    assert gaps == []


@pytest.mark.parametrize("routing", ["broadcast", "interest"])
async def test_a_streaming_providers_next_token_is_taken_on_the_live_link(
    server: RedisServer, routing: Any, caplog: pytest.LogCaptureFixture, leaves_nothing: None
) -> None:
    caplog.set_level(logging.DEBUG)
    tokens = Tokens()
    async with connect(url_of(server), routing=routing, connection_kwargs={"credential_provider": tokens}) as pod:
        await check_renewed(pod, tokens, server)
    assert SECRET not in caplog.text
    assert NEXT not in caplog.text


@pytest.mark.parametrize("token", [SECRET, "wrong-token"], ids=["taken", "refused"])
async def test_amid_traffic_nothing_is_lost_doubled_or_out_of_order(server: RedisServer, token: str) -> None:
    tokens = Tokens()
    options: Any = {"connection_kwargs": {"credential_provider": tokens}}
    async with connect(url_of(server), **options) as here, connect(url_of(server), **options) as there:
        socket = await attach(here, "c1", USER)
        for number in range(2_000):
            await there.publish(USER, number)
            if not number % 100:
                tokens.announce(Token(token))
                await asyncio.sleep(0)
        assert await socket.has(2_000) == [*range(2_000)]
        assert socket.gaps == []
        assert (here.stats().links, there.stats().links) == (1, 1)
    assert renewals(server) >= 20, "one provider, two pods: both were renewed"


async def test_each_node_of_a_cluster_is_renewed(start: StartServer) -> None:
    cluster = start(RedisCluster(masters=2, password=SECRET))
    tokens = Tokens()
    url = cluster.url.replace(f":{SECRET}@", "")
    kwargs = {"credential_provider": tokens}
    async with connect(url, routing="broadcast", lanes=16, connection_kwargs=kwargs) as pod:
        await check_renewed(pod, tokens, *cluster.nodes)
        for node in cluster.nodes:
            await until(lambda node=node: renewals(node), "each node's connection")  # type: ignore[misc]


async def test_a_link_to_a_sentinels_master_is_renewed(leaves_nothing: None) -> None:
    with SentinelSet(replicas=0, sentinels=1, password=SECRET) as sentinels:
        tokens = Tokens()
        url = sentinels.url.replace(f":{SECRET}@", "")
        async with connect(url, connection_kwargs={"credential_provider": tokens}) as pod:
            await check_renewed(pod, tokens, sentinels.nodes[0])


async def test_both_connections_of_a_link_over_streams_are_renewed(start: StartServer, leaves_nothing: None) -> None:
    server = start(RedisServer(password=SECRET, least_major=7))
    tokens = Tokens()
    url = url_of(server).replace("://", "+streams://", 1)
    async with connect(url, connection_kwargs={"credential_provider": tokens}) as pod:
        await check_renewed(pod, tokens, server)
        await until(lambda: renewals(server) == 2, "an AUTH on either")


@pytest.mark.parametrize("scheme", ["redis", "redis+streams"])
async def test_a_token_that_is_refused_leaves_the_link_and_is_a_warning(
    start: StartServer, scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = start(RedisServer(password=SECRET, least_major=7))
    tokens = Tokens()
    url = url_of(server).replace("redis", scheme, 1)
    async with connect(url, connection_kwargs={"credential_provider": tokens}) as pod:
        tokens.announce(Token("wrong-token"))
        # Redis 7.2 and later leave out the reply if they read the command together with one before it.
        refusals = ("refused renewed credentials (WRONGPASS)", "refused renewed credentials (without a reply)")
        await until(lambda: any(text in caplog.text for text in refusals), "a warning")
        tokens.on_failure[0](RuntimeError("wrong-token"))
        await pod.publish(USER, 1)
        await pod.flush(timeout_s=10)
        assert pod.stats().links == 1
    assert "the credential provider reports RuntimeError" in caplog.text
    assert "wrong-token" not in caplog.text


async def test_what_announces_no_token_is_asked(server: RedisServer) -> None:
    tokens = Tokens()
    async with connect(url_of(server), connection_kwargs={"credential_provider": tokens}):
        tokens.announce(object())
        await until(lambda: renewals(server), "an AUTH with what the provider says")


async def test_a_plain_providers_credentials_are_renewed_by_the_clock(server: RedisServer) -> None:
    plain = Plain()
    kwargs = {"credential_provider": plain}
    async with connect(f"{url_of(server)}?renew_credentials_s=0.2", connection_kwargs=kwargs) as pod:
        await until(lambda: renewals(server) >= 3, "three renewals")
        assert plain.asked >= 4
        assert pod.stats().links == 1


async def test_a_provider_that_fails_when_asked_again_leaves_the_link_and_its_text_is_not_shown(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    kwargs = {"credential_provider": Plain(fails=True), "renew_credentials_s": 0.1}
    async with connect(url_of(server), connection_kwargs=kwargs) as pod:
        await until(lambda: "the credential provider raised LookupError" in caplog.text, "a warning")
        assert pod.ready()
    assert SECRET not in caplog.text


async def test_a_slow_provider_does_not_hold_the_loop_and_is_asked_once_at_a_time(server: RedisServer) -> None:
    plain = Plain(held=threading.Event())
    kwargs = {"credential_provider": plain}
    pod = await connect(url_of(server), wait=False, connect_timeout_s=0.2, connection_kwargs=kwargs)
    try:
        await until(lambda: plain.asked, "the provider is asked")
        # The loop runs: this sleep ends, and attempts time out meanwhile.
        await until(lambda: "no answer in time" in (pod.ready().reason or ""), "an attempt that timed out")
        assert plain.asked == 1
        assert plain.held is not None
        plain.held.set()
        await pod.wait_for_state("live", timeout_s=30)
    finally:
        await pod.aclose(drain_s=0)


async def test_a_provider_with_an_asynchronous_method_is_awaited(server: RedisServer) -> None:
    class Asynchronous(CredentialProvider):
        def get_credentials(self) -> tuple[str, str]:
            raise AssertionError

        async def get_credentials_async(self) -> tuple[str, str]:
            await asyncio.sleep(0)
            return ("default", SECRET)

    async with connect(url_of(server), connection_kwargs={"credential_provider": Asynchronous()}) as pod:
        assert pod.ready()


@pytest.mark.parametrize(
    ("url", "kwargs"),
    [
        ("redis://h?renew_credentials_s=5", {}),
        ("redis://h?renew_credentials_s=0", {"credential_provider": Plain()}),
        ("redis://h?renew_credentials_s=soon", {"credential_provider": Plain()}),
        ("redis-cluster://h", {"credential_provider": Plain(), "renew_credentials_s": -1}),
        ("redis+sentinel://h/s?renew_credentials_s=inf", {"credential_provider": Plain()}),
    ],
)
def test_an_interval_that_is_none_or_renews_nothing_is_an_error_at_once(url: str, kwargs: Any) -> None:
    with pytest.raises(ConfigurationError, match="renew_credentials_s"):
        connect(url, connection_kwargs=kwargs)
