"""What a server can be started with: passwords, ACL users, tokens, keys, credentials, TLS, limits."""

from __future__ import annotations

import asyncio
import re
import ssl
from pathlib import Path

import pytest
from backplane_testservers import NatsServer, RedisServer, Tls
from backplane_testservers.nats_keys import Key, Operator, user_key
from backplane_testservers.raw_client import ask_nats, ask_redis
from backplane_testservers.tls import Certificates

from tests.conftest import StartServer

# What breaks where it is not quoted: in a URL, in Redis's configuration, in NATS's.
PASSWORD = "p:@/ \"'#%\\ü"


def trusting(ca: Path, client: Tls | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca))
    if client is not None:
        context.load_cert_chain(client.cert, client.key)
    return context


async def test_redis_wants_its_password(start: StartServer) -> None:
    server = start(RedisServer(password=PASSWORD))
    address = (server.host, server.port)
    assert await ask_redis(address, ["AUTH", PASSWORD], ["PING"]) == "+PONG"
    assert (await ask_redis(address, ["PING"])).startswith("-NOAUTH")
    assert (await ask_redis(address, ["AUTH", "wrong"])).startswith("-WRONGPASS")


async def test_redis_wants_its_acl_user(start: StartServer) -> None:
    server = start(RedisServer(user="pod", password=PASSWORD))
    address = (server.host, server.port)
    assert await ask_redis(address, ["AUTH", "pod", PASSWORD], ["PUBLISH", "c", "x"]) == ":0"
    assert (await ask_redis(address, ["PING"])).startswith("-NOAUTH")
    assert (await ask_redis(address, ["AUTH", "default", PASSWORD])).startswith("-WRONGPASS")


async def test_redis_serves_a_unix_socket(start: StartServer) -> None:
    server = start(RedisServer(unix_socket=True))
    assert await ask_redis(server.unix_path, ["PING"]) == "+PONG"
    assert server.unix_url == f"unix://{server.unix_path}"


async def test_redis_takes_extra_lines(start: StartServer) -> None:
    server = start(RedisServer(extra=["rename-command PING KNOCK"]))
    address = (server.host, server.port)
    assert await ask_redis(address, ["KNOCK"]) == "+PONG"
    assert (await ask_redis(address, ["PING"])).startswith("-ERR unknown command")


async def test_redis_serves_tls_where_it_was_built_with_it(start: StartServer, certificates: Certificates) -> None:
    server = start(RedisServer(tls=certificates.server))
    address = (server.host, server.port)
    assert server.url.startswith("rediss://")
    assert await ask_redis(address, ["PING"], tls=trusting(certificates.server.ca)) == "+PONG"
    with pytest.raises(ssl.SSLCertVerificationError):
        await ask_redis(address, ["PING"], tls=trusting(certificates.strangers_ca))


async def test_nats_wants_its_password(start: StartServer) -> None:
    server = start(NatsServer(user="pod", password=PASSWORD))
    address = (server.host, server.port)
    assert await ask_nats(address, {"user": "pod", "pass": PASSWORD}) == "PONG"
    assert await ask_nats(address) == "-ERR 'Authorization Violation'"


async def test_nats_wants_its_token(start: StartServer) -> None:
    server = start(NatsServer(token=PASSWORD))
    address = (server.host, server.port)
    assert await ask_nats(address, {"auth_token": PASSWORD}) == "PONG"
    assert await ask_nats(address) == "-ERR 'Authorization Violation'"


async def test_nats_wants_its_nkey(start: StartServer) -> None:
    key = user_key()
    server = start(NatsServer(nkey=key.public))
    address = (server.host, server.port)
    assert await ask_nats(address, key=key) == "PONG"
    assert await ask_nats(address, key=user_key()) == "-ERR 'Authorization Violation'"


async def test_nats_lets_in_whom_its_operators_account_signed_and_no_other(start: StartServer) -> None:
    operator = Operator()
    server = start(NatsServer(operator=operator))
    address = (server.host, server.port)
    jwt, key = read_credentials(operator.new_credentials())
    assert await ask_nats(address, {"jwt": jwt}, key=key) == "PONG"
    assert "Authorization Violation" in await ask_nats(address)
    jwt, key = read_credentials(Operator().new_credentials())
    assert "Authorization Violation" in await ask_nats(address, {"jwt": jwt}, key=key)


def read_credentials(text: str) -> tuple[str, Key]:
    """Read a creds file as clients do: the JWT and the key."""
    jwt, seed = re.findall(r"-----BEGIN .*-----\n(.*)\n------END .*------\n", text)
    return jwt, Key.from_seed(seed)


async def test_nats_serves_tls(start: StartServer, certificates: Certificates) -> None:
    server = start(NatsServer(tls=certificates.server))
    address = (server.host, server.port)
    assert server.url.startswith("tls://")
    assert await ask_nats(address, tls=trusting(certificates.server.ca)) == "PONG"
    with pytest.raises(ssl.SSLCertVerificationError):
        await ask_nats(address, tls=trusting(certificates.strangers_ca))


async def test_nats_can_insist_on_a_clients_certificate(start: StartServer, certificates: Certificates) -> None:
    server = start(NatsServer(tls=certificates.server.verifying_clients()))
    address = (server.host, server.port)
    known = trusting(certificates.server.ca, certificates.client)
    assert await ask_nats(address, tls=known) == "PONG"
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await ask_nats(address, tls=trusting(certificates.server.ca))


async def test_nats_refuses_a_message_over_its_limit(start: StartServer) -> None:
    server = start(NatsServer(max_payload=2048))
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        async with asyncio.timeout(5):
            assert b'"max_payload":2048' in await reader.readline()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_stream_survives_a_restart(start: StartServer) -> None:
    server = start(NatsServer(jetstream=True))
    create = '{"name":"KEPT","subjects":["kept"],"storage":"file"}'
    assert '"type":"io.nats.jetstream.api.v1.stream_create_response"' in await ask(
        server, "$JS.API.STREAM.CREATE.KEPT", create
    )
    assert '"seq":1' in await ask(server, "kept", "x")

    server.restart()

    assert '"messages":1' in await ask(server, "$JS.API.STREAM.INFO.KEPT", "")


async def ask(server: NatsServer, subject: str, payload: str) -> str:
    """Send one request and return the reply's payload."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        async with asyncio.timeout(10):
            writer.write(b'CONNECT {"verbose":false}\r\nSUB reply 1\r\n')
            writer.write(f"PUB {subject} reply {len(payload)}\r\n{payload}\r\n".encode())
            while not (line := await reader.readline()).startswith(b"MSG"):
                assert not line.startswith(b"-ERR"), line
            return (await reader.readline()).decode()
    finally:
        writer.close()
        await writer.wait_closed()


def test_no_secret_is_in_a_repr_or_a_command_line() -> None:
    operator = Operator()
    key = user_key()
    shown = repr(
        [
            RedisServer(user="pod", password="s3cret"),
            NatsServer(user="pod", password="s3cret"),
            NatsServer(token="s3cret"),
            NatsServer(operator=operator),
            operator,
            key,
        ]
    )
    assert "s3cret" not in shown
    assert key.seed not in shown
    for server in RedisServer(password="s3cret"), NatsServer(token="s3cret"):
        assert "s3cret" not in str(server.command(Path("server"), Path("file.conf")))
