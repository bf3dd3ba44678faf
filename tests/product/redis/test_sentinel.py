"""Sentinel URLs, what they open, what goes wrong, and that no error shows a secret."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
from backplane_core import (
    AuthenticationError,
    ConfigurationError,
    Link,
    Target,
    Transport,
    TransportError,
    connect,
)
from backplane_redis import SentinelTransport
from backplane_redis._sentinel.client import Sentinel
from backplane_redis._sentinel.link import SentinelLink
from backplane_redis._sentinel.quorum import NEWS_S
from backplane_testservers import free_port
from backplane_testservers.sentinels import SERVICE, SentinelSet, ask
from backplane_testservers.tls import Certificates

from tests.conftest import available
from tests.product.redis.reading import DEADLINE_S, Heard, all_that_is_said, raised
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("leaves_nothing")

NODE_SECRET = "s3cr3tnode"
SENTINEL_SECRET = "s3cr3tsentinel"
OWN = {"sentinel_kwargs": {"password": SENTINEL_SECRET}}


def one(**options: Any) -> Iterator[SentinelSet]:
    """A master and one sentinel that is in no hurry to call it dead."""
    with available(SentinelSet(replicas=0, sentinels=1, down_after_ms=60_000, **options)) as sentinels:
        yield sentinels


@pytest.fixture(scope="module")
def plain() -> Iterator[SentinelSet]:
    """Shared: whoever hurts it mends it."""
    yield from one()


@pytest.fixture(scope="module")
def locked() -> Iterator[SentinelSet]:
    yield from one(password=NODE_SECRET, sentinel_password=SENTINEL_SECRET)


def assert_no_secret(*texts: str) -> None:
    for text in texts:
        assert "s3cr3t" not in text


@asynccontextmanager
async def reading(url: str, **options: Any) -> AsyncGenerator[tuple[SentinelLink, Heard]]:
    async with asyncio.timeout(DEADLINE_S):
        link = await SentinelTransport(url, connection_kwargs=options).open()
        assert isinstance(link, SentinelLink)
    heard = Heard(link)
    try:
        yield link, heard
    finally:
        async with asyncio.timeout(DEADLINE_S):
            await link.aclose()
            with suppress(TransportError, asyncio.CancelledError):
                await heard.task


async def round_trip(url: str, **options: Any) -> None:
    async with reading(url, **options) as (link, heard):
        await link.subscribe(["a"])
        await link.send([("a", b"1")])
        assert await heard.until(1) == [("a", b"1")]


def sure_until(link: SentinelLink) -> float:
    until = link.proven().replicated_until
    assert until is not None
    return until


async def test_transport_and_link_are_what_core_asks_for(plain: SentinelSet) -> None:
    assert isinstance(SentinelTransport(plain.url), Transport)
    async with reading(plain.url) as (link, _):
        assert isinstance(link, Link)
        assert repr(link) == f"<SentinelLink {plain.master.host}:{plain.master.port} live, 0 channels, 0 replies due>"


@pytest.mark.parametrize("scheme", ["redis+sentinel", "valkey+sentinel", "REDIS+SENTINEL"])
async def test_connect_finds_the_adapter_by_each_scheme(plain: SentinelSet, scheme: str, channel: str) -> None:
    _, _, rest = plain.url.partition("://")
    async with connect(f"{scheme}://{rest}/0", channel=channel) as backplane:
        assert await backplane.publish(Target.user("u1"), 1) == 0
        await backplane.flush(timeout_s=DEADLINE_S)


async def test_a_database_may_stand_in_path_or_query(plain: SentinelSet) -> None:
    for url in (f"{plain.url}/3", f"{plain.url}?db=3"):
        async with reading(f"{url}{'&' if '?' in url else '?'}client_name=of-three"):
            clients: list[str] = ask(plain.master, "CLIENT", "LIST").splitlines()
            assert [" db=3 " in client for client in clients if " name=of-three " in client] == [True]


async def test_nodes_and_sentinels_have_credentials_of_their_own(locked: SentinelSet) -> None:
    await round_trip(locked.url, **OWN)
    await round_trip(f"{locked.url}?sentinel_password={SENTINEL_SECRET}")
    await round_trip(locked.url.replace(f":{NODE_SECRET}@", ""), password=NODE_SECRET, **OWN)


@pytest.mark.parametrize("query", ["", f"?sentinel_password={SENTINEL_SECRET}wrong", "?sentinel_username=s3cr3t"])
async def test_a_sentinel_that_refuses_says_whose_credentials_are_wrong_and_not_which(
    locked: SentinelSet, query: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    transport = SentinelTransport(f"{locked.url}{query}")
    error = await raised(transport.open())
    assert type(error) is AuthenticationError
    assert "the sentinel at" in str(error)
    assert "sentinel_kwargs" in str(error)
    assert_no_secret(all_that_is_said(error), repr(transport), repr(vars(transport)), caplog.text)


async def test_a_master_that_refuses_says_so_without_the_password(
    locked: SentinelSet, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    transport = SentinelTransport(locked.url.replace(NODE_SECRET, "s3cr3twrong"), connection_kwargs=OWN)
    error = await raised(transport.open())
    assert type(error) is AuthenticationError
    assert f"the master of '{SERVICE}' at {locked.master.host}:{locked.master.port}" in str(error)
    assert_no_secret(all_that_is_said(error), repr(transport), caplog.text)


async def test_a_user_who_may_only_publish_and_subscribe_can_have_the_role_watched(locked: SentinelSet) -> None:
    ask(locked.master, "ACL", "SETUSER", "pod", "on", ">s3cr3tpod", "&*", "-@all", "+publish", "+subscribe")
    url = locked.url.replace(f":{NODE_SECRET}", "pod:s3cr3tpod")
    async with reading(url, **OWN) as (link, heard):
        await link.subscribe(["a"])
        await link.ask_standing()
        await link.send([("a", b"1")])
        await heard.until(1)
        assert not link.proven().deposed


async def test_an_unknown_service_is_named_and_may_yet_be_known(plain: SentinelSet) -> None:
    error = await raised(SentinelTransport(plain.url.replace(SERVICE, "odrers")).open())
    assert "'odrers'" in str(error)
    assert error.retryable


async def test_when_no_sentinel_answers_each_is_named_with_what_is_wrong() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hosts = f"127.0.0.1:{free_port()},127.0.0.1:{silent.getsockname()[1]}"
        error = await raised(SentinelTransport(f"redis+sentinel://:s3cr3t@{hosts}/{SERVICE}").open())
    assert error.retryable
    assert repr(SERVICE) in str(error)
    for host, what in zip(hosts.split(","), ("is the server running", "does not answer within"), strict=True):
        assert f"the sentinel at {host}" in str(error)
        assert what in str(error)
    assert_no_secret(all_that_is_said(error))


async def test_sentinels_that_are_away_or_silent_hold_up_nobody(plain: SentinelSet) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(2)]
        hosts = ",".join([f"127.0.0.1:{port}" for port in (free_port(), *silent)])
        await round_trip(f"redis+sentinel://{hosts},{plain.hosts}/{SERVICE}")


async def test_a_master_that_is_away_is_named(plain: SentinelSet) -> None:
    plain.master.kill()
    try:
        error = await raised(SentinelTransport(plain.url).open())
    finally:
        plain.nodes[0].start()
    assert error.retryable
    assert f"the master of '{SERVICE}' at 127.0.0.1:{plain.nodes[0].port}: nothing listens there" in str(error)


async def test_a_master_that_is_frozen_is_given_up_in_time(plain: SentinelSet) -> None:
    plain.master.freeze()
    try:
        error = await raised(SentinelTransport(plain.url).open())
    finally:
        plain.master.thaw()
    assert error.retryable
    assert "no answer within" in str(error)


@pytest.mark.usefixtures("read_path")
async def test_a_node_that_becomes_a_replica_ends_its_link_and_is_not_linked_to(plain: SentinelSet) -> None:
    async with reading(plain.url) as (link, heard):
        await link.subscribe(["a"])
        ask(plain.master, "REPLICAOF", "127.0.0.1", str(free_port()))
        try:
            error = await heard.death()
            assert "it is a replica" in str(error)
            assert link.proven().deposed
            error = await raised(link.send([("a", b"1")]))
            assert "it is a replica" in str(error)
            error = await raised(SentinelTransport(plain.url).open())
            assert "is a replica now" in str(error)
            assert error.retryable
        finally:
            ask(plain.master, "REPLICAOF", "NO", "ONE")


async def test_a_watch_that_fails_ends_the_link(plain: SentinelSet, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise LookupError("s3cr3t")

    async with reading(plain.url) as (_, heard):
        monkeypatch.setattr(Sentinel, "ask", fail)
        error = await heard.death()
    assert "LookupError" in str(error)
    assert_no_secret(all_that_is_said(error))


async def test_a_link_is_sure_until_the_sentinels_last_confirmed_its_master(plain: SentinelSet) -> None:
    async with reading(plain.url) as (link, _):
        since = sure_until(link)
        assert since <= time.monotonic() - NEWS_S
        await until(lambda: sure_until(link) > since, "the sentinel is asked each second")
        assert since < sure_until(link) <= time.monotonic() - NEWS_S
        assert not link.proven().deposed, "it may die, and was the master"


async def test_a_link_that_nobody_confirms_for_long_may_be_in_vain(
    plain: SentinelSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backplane_redis._sentinel.watch.LONG_S", 2 * NEWS_S)

    async def away(*_: object) -> None:
        raise TransportError("away")

    async with reading(plain.url) as (link, _):
        monkeypatch.setattr(Sentinel, "ask", away)
        await until(lambda: link.proven().deposed, "nobody says that this is the master")
        assert time.monotonic() - sure_until(link) > 2 * NEWS_S


async def test_tls_holds_for_nodes_and_sentinels_alike(certificates: Certificates) -> None:
    for sentinels in one(tls=certificates.server):
        ca = str(certificates.server.ca)
        await round_trip(f"{sentinels.url}?ssl_ca_certs={ca}")
        await round_trip(sentinels.url.replace("rediss+", "valkeys+"), ssl_ca_certs=ca)
        strangers = {"ssl_ca_certs": ca, "sentinel_kwargs": {"ssl_ca_certs": str(certificates.strangers_ca)}}
        error = await raised(SentinelTransport(sentinels.url, connection_kwargs=strangers).open())
        assert "the sentinel at" in str(error)
        assert "certificate can't be verified" in str(error)
        assert not error.retryable


async def test_a_tls_sentinel_over_plain_servers_is_reached_by_options_of_its_own(certificates: Certificates) -> None:
    ca, strangers = str(certificates.server.ca), str(certificates.strangers_ca)
    for sentinels in one(sentinel_tls=certificates.server):
        await round_trip(f"{sentinels.url}?sentinel_ssl=true&sentinel_ssl_ca_certs={ca}")
        await round_trip(sentinels.url, sentinel_kwargs={"ssl": True, "ssl_ca_certs": ca})
        await round_trip(f"{sentinels.url}?sentinel_ssl=yes&sentinel_ssl_cert_reqs=none&sentinel_ssl_check_hostname=no")
        error = await raised(SentinelTransport(sentinels.url).open())
        assert "the sentinel at" in str(error), "without TLS it is not reached"
        error = await raised(
            SentinelTransport(f"{sentinels.url}?sentinel_ssl=true&sentinel_ssl_ca_certs={strangers}").open()
        )
        assert "certificate can't be verified" in str(error)
        assert not error.retryable


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("sentinel_ssl=maybe", "the value of 'sentinel_ssl' can't be used; allowed: true"),
        ("sentinel_ssl=true&sentinel_ssl_cert_reqs=some", "'sentinel_ssl_cert_reqs' can't be used; allowed: none"),
        ("sentinel_ssl_ca_certs=/x", "with TLS"),
        ("sentinel_ssl=true&sentinel_ssl_ca_certs=/no/such/file", "No such file"),
        ("sentinel_db=1", "sentinel_username, sentinel_password, sentinel_ssl"),
    ],
)
def test_a_wrong_option_of_the_query_for_the_sentinels_is_refused_at_once(query: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SentinelTransport(f"redis+sentinel://h1/svc?{query}")
    assert says in str(caught.value)


async def test_tls_towards_the_sentinels_can_be_chosen_on_its_own(plain: SentinelSet) -> None:
    tls = SentinelTransport(plain.url, connection_kwargs={"sentinel_kwargs": {"ssl": True}})
    assert "the sentinel at" in str(await raised(tls.open())), "it takes no TLS"
    url = plain.url.replace("redis+", "rediss+")
    error = await raised(SentinelTransport(url, connection_kwargs={"sentinel_kwargs": {"ssl": False}}).open())
    assert "the master of" in str(error), "the sentinel was asked in plain text, and the master with TLS"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://h/svc", "must start with redis+sentinel://"),
        ("s3cr3t", "must start with redis+sentinel://"),
        ("redis+sentinel://", "malformed"),
        ("redis+sentinel:///svc", "malformed"),
        ("redis+sentinel://h1,,h2/svc", "malformed"),
        ("redis+sentinel://h1:1,h2:port/svc", "a host's port, behind its colon, is a number from 1 to 65535"),
        ("redis+sentinel://h1:0/svc", "a host's port, behind its colon, is a number from 1 to 65535"),
        ("redis+sentinel://u:s3cr3t@h1:99999/svc", "a host's port, behind its colon, is a number from 1 to 65535"),
        ("redis+sentinel://u:s3cr3t,x@h1/svc/zero", "name of a service"),
        ("redis+sentinel://u:s3cr3t/x@h1/svc", "malformed"),
        ("redis+sentinel://u:s3cr3t?x@h1/svc", "malformed"),
        ("redis+sentinel://u:s3cr3t#x@h1/svc", "malformed"),
        ("redis+sentinel://u:s3cr3t@x@h1/svc", "malformed"),
        ("redis+sentinel://u:s3cr3t@h1,h2", "name of a service"),
        ("redis+sentinel://u:s3cr3t@h1,h2/", "name of a service"),
        ("redis+sentinel://u:s3cr3t@h1,h2/svc/0/1", "name of a service"),
        ("redis+sentinel://h1/svc?sentinel_pasword=s3cr3t", "no option 'sentinel_pasword'"),
        ("redis+sentinel://h1/svc?socket_timeout=3", "no option 'socket_timeout'"),
        ("redis+sentinel://h1/svc?db=one", "'db'"),
        ("rediss+sentinel://:s3cr3t@h1/svc?ssl_ca_certs=/no/such/file", "No such file"),
    ],
)
def test_a_wrong_url_is_refused_at_once_with_what_is_allowed_and_no_secret(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SentinelTransport(url)
    assert says in str(caught.value)
    assert caught.value.__context__ is None
    assert_no_secret(str(caught.value), repr(caught.value))


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ({"pasword": "s3cr3t"}, "sentinel_kwargs has no option 'pasword'; allowed: credential_provider, password"),
        ({"ssl_ca_certs": "/x"}, "with TLS"),
        ({"socket_timeout": 1}, "'socket_timeout'"),
        ("s3cr3t", "must be a mapping"),
    ],
)
def test_a_wrong_option_for_the_sentinels_is_refused_at_once(own: Any, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SentinelTransport("redis+sentinel://h1/svc", connection_kwargs={"sentinel_kwargs": own})
    assert says in str(caught.value)
    assert_no_secret(str(caught.value))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis+sentinel://pod:s3cr3t@h1,h2:1/svc/1", "redis+sentinel://pod:***@h1:26379,h2:1/svc/1"),
        ("rediss+sentinel://s3cr3t@h1/svc", "rediss+sentinel://***@h1:26379/svc"),
        ("VALKEY+sentinel://[::1]:7,h2/svc?sentinel_password=s3cr3t", "valkey+sentinel://[::1]:7,h2:26379/svc"),
    ],
)
def test_a_transport_shows_its_url_without_secrets(url: str, shown: str) -> None:
    assert repr(SentinelTransport(url)) == f"SentinelTransport('{shown}')"
