"""TLS where there is none, and none where there is: the error says so at once, and nothing of the user's is sent."""

from __future__ import annotations

import asyncio

import pytest
from backplane_core import Publisher, SyncPublisher, Target, TransportError, connect
from backplane_redis import RedisTransport, StreamsTransport
from backplane_testservers import HANG_UP, NatsServer, Proxy, RedisServer, ScriptedRedis
from backplane_testservers.streams import serve
from backplane_testservers.tls import Certificates
from redis.credentials import CredentialProvider

from tests.conftest import StartServer
from tests.product.redis.reading import DEADLINE_S, all_that_is_said, raised

pytestmark = pytest.mark.usefixtures("leaves_nothing")

HOST = "127.0.0.1"
SECRET = "s3cr3t"
ROUTES = ("redis://", "valkey://", "redis+streams://", "redis-cluster://", "redis+sentinel://")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives a server on a busy machine time to answer who it is."""
    for name in ("_strangers._ASK_S", "_cluster.discovery.ASK_S", "_sentinel.client.ANSWER_S"):
        monkeypatch.setattr(f"backplane_redis.{name}", DEADLINE_S / 2)


def in_tls(scheme: str) -> str:
    return scheme.replace("redis", "rediss").replace("valkey", "valkeys")


async def failure_at(address: str, scheme: str, query: str = "") -> TransportError:
    service = "/orders" if "sentinel" in scheme else ""
    failure = await raised(asyncio.ensure_future(opening(f"{scheme}:{SECRET}@{address}{service}{query}")))
    assert address in str(failure)
    assert SECRET not in all_that_is_said(failure)
    return failure


async def opening(url: str) -> None:
    await connect(url, connect_timeout_s=2 * DEADLINE_S)


@pytest.mark.parametrize("scheme", ROUTES)
@pytest.mark.parametrize("password", [None, SECRET])
async def test_a_server_without_tls_is_named_though_it_never_answers_to_tls(
    start: StartServer, certificates: Certificates, scheme: str, password: str | None
) -> None:
    server = start(RedisServer(password=password))
    ca = f"?ssl_ca_certs={certificates.server.ca}"
    failure = await failure_at(f"{server.host}:{server.port}", in_tls(scheme), ca)
    assert "it speaks no TLS" in str(failure)
    assert f"connect with {scheme}" in str(failure)
    assert not failure.retryable


@pytest.mark.parametrize("scheme", ROUTES)
async def test_a_server_that_wants_tls_is_named_though_it_hangs_up_without_a_word(
    start: StartServer, certificates: Certificates, scheme: str
) -> None:
    server = start(RedisServer(tls=certificates.server))
    failure = await failure_at(f"{server.host}:{server.port}", scheme)
    assert f"it speaks TLS: connect with {in_tls(scheme)}" in str(failure)
    assert not failure.retryable


async def test_publishers_learn_it_too(start: StartServer, certificates: Certificates) -> None:
    server = start(RedisServer())
    url = f"rediss://{server.host}:{server.port}?ssl_ca_certs={certificates.server.ca}"
    with pytest.raises(TransportError, match="it speaks no TLS"):
        await Publisher(url, connect_timeout_s=2 * DEADLINE_S).__aenter__()

    def publish() -> None:
        publisher = SyncPublisher(url, connect_timeout_s=2 * DEADLINE_S, wait=True)
        with publisher, pytest.raises(TransportError, match="it speaks no TLS"):
            publisher.publish(Target.user("u1"), 1)

    await asyncio.to_thread(publish)


async def test_a_nats_server_is_named_where_redis_was_expected_over_tls(
    start: StartServer, certificates: Certificates
) -> None:
    server = start(NatsServer())
    failure = await failure_at(f"{server.host}:{server.port}", "rediss://", f"?ssl_ca_certs={certificates.server.ca}")
    assert "connect with nats://" in str(failure)
    assert not failure.retryable


async def test_who_says_nothing_at_all_is_asked_once_and_hears_nothing_of_the_users(
    certificates: Certificates,
) -> None:
    said: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        said.append(await reader.read(4096))
        await reader.read()

    async with serve(listen) as port:
        transport = RedisTransport(f"rediss://:{SECRET}@127.0.0.1:{port}?ssl_ca_certs={certificates.server.ca}")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await transport.open()
    assert said[0][:1] == b"\x16", "the first one speaks TLS"
    assert said[1:] == [b"PING\r\n"]


async def test_a_server_that_was_reached_before_is_not_asked_when_it_hangs_up() -> None:
    with ScriptedRedis() as server:
        transport = RedisTransport(server.url)
        await (await transport.open()).aclose()
        accepted = server.accepted
        server.answers["HELLO"] = HANG_UP
        failure = await raised(transport.open())
        assert "it closed the connection" in str(failure)
        assert failure.retryable
        assert server.accepted == accepted + 1
        await raised(RedisTransport(server.url).open())
        assert server.accepted == accepted + 3, "another transport does ask"


@pytest.mark.parametrize(("kind", "connections"), [(RedisTransport, 1), (StreamsTransport, 2)])
async def test_a_server_with_tls_that_was_reached_before_is_not_asked_however_slow_it_is(
    start: StartServer, certificates: Certificates, kind: type[RedisTransport], connections: int
) -> None:
    server = start(RedisServer(tls=certificates.server))
    with Proxy(server.host, server.port) as proxy:
        proxy.down.delay(1.0)
        scheme = "rediss" if kind is RedisTransport else "rediss+streams"
        transport = kind(f"{scheme}://{HOST}:{proxy.port}?ssl_ca_certs={certificates.server.ca}")
        await (await transport.open()).aclose()
        first = len(proxy.accepted_at)
        assert first > connections, "it was asked"
        await (await transport.open()).aclose()
        assert len(proxy.accepted_at) - first == connections


async def test_a_server_with_tls_is_not_asked_while_credentials_are_waited_for(
    start: StartServer, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience_s = 2.0
    monkeypatch.setattr("backplane_redis._strangers._PATIENCE_S", patience_s)
    monkeypatch.setattr("backplane_redis._strangers._ASK_S", 0.1)

    class Slow(CredentialProvider):
        def get_credentials(self) -> tuple[str, str]:
            raise NotImplementedError

        async def get_credentials_async(self) -> tuple[str, str]:
            await asyncio.sleep(2 * patience_s)
            return "default", SECRET

    server = start(RedisServer(password=SECRET, tls=certificates.server))
    with Proxy(server.host, server.port) as proxy:
        url = f"rediss://{HOST}:{proxy.port}?ssl_ca_certs={certificates.server.ca}"
        transport = RedisTransport(url, connection_kwargs={"credential_provider": Slow()})
        await (await transport.open()).aclose()
        assert len(proxy.accepted_at) == 1
