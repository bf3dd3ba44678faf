"""What a NATS link says of a server that is none: at once where it speaks, and with its address."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator

import pytest
from backplane_core import TransportError, connect
from backplane_nats.transport import NatsTransport
from backplane_testservers import NatsServer, RedisServer, ScriptedNats, free_port
from backplane_testservers.scripted import SILENCE, USUAL
from backplane_testservers.scripted_nats import info
from backplane_testservers.streams import serve
from backplane_testservers.tls import Certificates

from tests.conftest import StartServer
from tests.product.nats.helpers import DEADLINE_S, texts_of
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("leaves_nothing")

SECRET = "s3cret"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives a server on a busy machine time to answer who it is."""
    monkeypatch.setattr("backplane_nats._foreign._ASK_S", DEADLINE_S / 2)


async def failure_at(address: str) -> TransportError:
    """Open a link there, and return the error: it names the address, and quotes neither side."""
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(TransportError) as caught:
            await NatsTransport(f"nats://u:{SECRET}@{address}").open()
    assert address in str(caught.value)
    assert not any(SECRET in text for text in texts_of(caught.value))
    return caught.value


@pytest.mark.parametrize(
    ("greeting", "says", "retryable"),
    [
        (b"HTTP/1.1 408 s3cret\r\n\r\n", "it speaks HTTP", False),
        (b"<!DOCTYPE HTML>s3cret", "it speaks HTTP", False),
        (b"SSH-2.0-OpenSSH_9.6 s3cret\r\n", "it is an SSH server", False),
        (b"\x15\x03\x01\x00\x02\x02\x46", "tls_handshake_first=true", False),
        (b"-DENIED Redis is running in protected mode s3cret\r\n", "connect with redis://", False),
        (b"-ERR max number of clients reached\r\n", "connect with redis://", False),
        (b"J\x00\x00\x00\x0a8.0.36\x00s3cret", "not the NATS protocol", False),  # MySQL, without an end of line
        (b"220 s3cret ESMTP\r\n", "not the NATS protocol", False),
        (b"INFORMATION s3cret\r\n", "not the NATS protocol", False),
        (b"-ERR 'maximum connections exceeded'\r\n", "max_connections", True),
        (b"-ERR 's3cret'\r\n", "refused the connection", True),
    ],
)
async def test_what_speaks_first_and_is_no_nats_is_named(greeting: bytes, says: str, *, retryable: bool) -> None:
    with ScriptedNats(greeting=greeting) as server:
        failure = await failure_at(f"{server.host}:{server.port}")
    assert re.search(says, str(failure))
    assert failure.retryable is retryable


async def test_a_server_that_hung_up_before_its_address_was_asked_for_is_one_that_hung_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such a socket has no peer any longer; this passed for credentials that can't be made, and was tried rarely."""
    extra = asyncio.StreamWriter.get_extra_info

    def without_peer(self: asyncio.StreamWriter, name: str, default: object = None) -> object:
        return None if name == "peername" else extra(self, name, default)

    monkeypatch.setattr(asyncio.StreamWriter, "get_extra_info", without_peer)

    async def hang_up(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        return

    async with serve(hang_up) as port:
        failure = await failure_at(f"127.0.0.1:{port}")
    assert type(failure) is TransportError
    assert failure.retryable


@pytest.mark.usefixtures("patient")
async def test_a_real_redis_is_named_whether_it_asks_for_a_password_or_not(start: StartServer) -> None:
    for extra in ([], ["requirepass x"]):
        server = start(RedisServer(extra=extra))
        failure = await failure_at(f"{server.host}:{server.port}")
        assert "it is a Redis server: connect with redis://" in str(failure)
        assert not failure.retryable


@pytest.mark.usefixtures("patient")
async def test_a_monitoring_port_is_named(start: StartServer) -> None:
    port = free_port()
    start(NatsServer(extra=[f"http: 127.0.0.1:{port}"]))
    failure = await failure_at(f"127.0.0.1:{port}")
    assert "it speaks HTTP: is it the monitoring port" in str(failure)
    assert not failure.retryable


@pytest.fixture
async def tls_port(certificates: Certificates) -> AsyncIterator[int]:
    """A port where TLS is spoken, and nothing within it."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.server.cert, certificates.server.key)
    async with serve(listen, tls=context) as port:
        yield port


@pytest.mark.usefixtures("patient")
async def test_a_port_that_speaks_tls_is_named(start: StartServer, certificates: Certificates, tls_port: int) -> None:
    files = f'cert_file: "{certificates.server.cert}", key_file: "{certificates.server.key}"'
    nats = start(NatsServer(extra=[f"tls: {{{files}, handshake_first: true}}"]))
    for port in (nats.port, tls_port):
        failure = await failure_at(f"127.0.0.1:{port}")
        assert "it speaks TLS" in str(failure)
        assert "tls_handshake_first=true" in str(failure)
        assert not failure.retryable


async def test_what_says_nothing_is_named_although_core_gives_up_after_five_seconds() -> None:
    with ScriptedNats({"PING": SILENCE}, greeting=b"") as server:
        with pytest.raises(TransportError, match="says nothing: is it NATS, or is it frozen") as caught:
            await connect(server.url, connect_timeout_s=6)
        assert f":{server.port}" in str(caught.value)
        assert server.count("CONNECT") == 0, "nothing of the user's was sent"


async def test_a_server_that_is_slow_to_greet_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backplane_nats._foreign._PATIENCE_S", 0.05)
    monkeypatch.setattr("backplane_nats._foreign._SILENCE_S", DEADLINE_S)
    with ScriptedNats({"PING": [SILENCE, USUAL]}, greeting=b"") as server:
        opening = asyncio.create_task(NatsTransport(server.url).open())
        await until(lambda: server.count("PING") == 1, "it is asked who it is, and stays silent")
        server.say(info())
        async with asyncio.timeout(DEADLINE_S):
            link = await opening
        await link.aclose()


async def test_a_server_that_was_reached_before_is_not_asked_when_it_is_slow_to_greet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("backplane_nats._foreign._PATIENCE_S", 0.0)
    with ScriptedNats() as server:
        transport = NatsTransport(server.url)
        await (await transport.open()).aclose()
        monkeypatch.setattr("backplane_nats._foreign._SILENCE_S", 0.5)
        server.greeting = b""
        accepted = server.accepted
        with pytest.raises(TransportError, match="says nothing"):
            await transport.open()
        assert server.accepted == accepted + 1
        with pytest.raises(TransportError, match="not the NATS protocol"):
            await NatsTransport(server.url).open()
        assert server.accepted == accepted + 3, "another transport does ask"
