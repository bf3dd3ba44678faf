from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from backplane_core import AuthenticationError, ConfigurationError, Link, Transport, TransportError
from backplane_redis import RedisTransport
from backplane_testservers import OwnBroker, RedisServer, free_port
from backplane_testservers.streams import serve
from backplane_testservers.tls import Certificates
from redis.credentials import CredentialProvider

from tests.conftest import StartServer
from tests.product.redis.reading import DEADLINE_S, admin_of, all_that_is_said, raised, reading

pytestmark = pytest.mark.usefixtures("leaves_nothing")

SECRET = "s3cr3t/p@ss:w?rd#%"
QUOTED = "s3cr3t%2Fp%40ss%3Aw%3Frd%23%25"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def assert_no_secret(*texts: str) -> None:
    for text in texts:
        assert "s3cr3t" not in text


async def round_trip(url: str, **options: Any) -> None:
    async with reading(url, **options) as (link, heard):
        await link.subscribe(["a"])
        await link.send([("a", b"1")])
        assert await heard.until(1) == [("a", b"1")]


@asynccontextmanager
async def scripted(talk: Talk, tls: ssl.SSLContext | None = None) -> AsyncGenerator[tuple[str, asyncio.Event]]:
    """Serve one client by a script; the event tells that the client is gone."""
    gone = asyncio.Event()

    async def follow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
            while await reader.read(1024):
                pass
        finally:
            gone.set()

    async with serve(follow, tls=tls) as port:
        yield f"127.0.0.1:{port}", gone


async def say_nothing(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    pass


async def test_transport_and_link_are_what_core_asks_for(redis_url: str) -> None:
    transport = RedisTransport(redis_url)
    assert isinstance(transport, Transport)
    assert transport.traits.confirms
    assert not transport.traits.durable
    assert transport.traits.max_payload_bytes == 512 * 1024 * 1024
    async with reading(redis_url) as (link, _):
        assert isinstance(link, Link)


@pytest.mark.usefixtures("read_path")
async def test_the_valkey_scheme_reaches_the_same_server(redis_server: OwnBroker) -> None:
    await round_trip(redis_server.url.replace("redis://", "valkey://"))
    await round_trip(redis_server.url.replace("redis://", "REDIS://"))


@pytest.mark.usefixtures("read_path")
async def test_a_unix_socket_works_with_and_without_a_password(start: StartServer) -> None:
    await round_trip(start(RedisServer(unix_socket=True)).unix_url)
    await round_trip(start(RedisServer(unix_socket=True, user="pod", password=SECRET)).unix_url)


async def test_user_and_password_may_stand_in_url_query_or_options(start: StartServer) -> None:
    server = start(RedisServer(user="pod", password=SECRET))
    bare = f"redis://{server.host}:{server.port}"
    await round_trip(server.url)
    await round_trip(f"{bare}?username=pod&password={QUOTED}")
    await round_trip(bare, username="pod", password=SECRET)


@pytest.mark.parametrize("unix", [False, True])
@pytest.mark.parametrize("login", [f":{QUOTED}wrong@", f"nobody:{QUOTED}@", ""])
async def test_wrong_and_missing_passwords_are_authentication_errors_without_the_password(
    start: StartServer, login: str, *, unix: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = start(RedisServer(password=SECRET, unix_socket=True))
    url = f"unix://{login}{server.unix_path}" if unix else f"redis://{login}{server.host}:{server.port}"
    transport = RedisTransport(url)
    error = await raised(transport.open())
    assert type(error) is AuthenticationError
    assert not error.retryable
    assert "user name or password" in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None
    assert_no_secret(all_that_is_said(error), repr(transport), caplog.text)


async def test_every_option_that_is_text_works_by_url(start: StartServer, certificates: Certificates) -> None:
    server = start(RedisServer(tls=certificates.server))
    keepalive = "socket_keepalive=true&socket_keepalive_options=TCP_KEEPIDLE:60,TCP_KEEPCNT:3"
    async with admin_of(f"{server.url}?ssl_cert_reqs=none") as admin:
        for name, seen in (("client_name=pod-7&", b"pod-7"), ("client_name=&", None), ("", b"backplane")):
            url = f"{server.url}?{name}ssl_cert_reqs=none&ssl_check_hostname=false&{keepalive}"
            async with reading(url) as (link, _):
                await link.subscribe(["a"])
                clients: list[dict[str, str]] = await admin.client_list(_type="pubsub")
                names = {client["name"] for client in clients}
                assert names == {"" if seen is None else seen.decode()}


async def test_a_user_that_may_not_set_a_name_goes_on_without_and_one_that_may_not_select_is_told_what_to_grant(
    start: StartServer,
) -> None:
    server = start(RedisServer(extra=["user pod on >pw resetchannels &* -@all +publish +subscribe"]))
    url = server.url.replace("//", "//pod:pw@")
    await round_trip(url)
    error = await raised(RedisTransport(f"{url}/1").open())
    assert type(error) is AuthenticationError
    assert "+select" in str(error)


async def test_a_closed_port_says_which_address_and_what_to_do() -> None:
    port = free_port()
    error = await raised(RedisTransport(f"redis://pod:{QUOTED}@127.0.0.1:{port}").open())
    assert error.retryable
    assert f"127.0.0.1:{port}" in str(error)
    assert "is the server running" in str(error)
    assert_no_secret(all_that_is_said(error))


async def test_an_unknown_host_and_a_missing_socket_say_so(tmp_path: Path) -> None:
    error = await raised(RedisTransport("redis://no-such-host.invalid").open())
    assert error.retryable
    assert "no-such-host.invalid:6379" in str(error)
    assert "host name" in str(error)
    error = await raised(RedisTransport(f"unix://{tmp_path}/none").open())
    assert error.retryable
    assert f"{tmp_path}/none: there is no such socket" in str(error)


async def test_a_host_name_that_an_exiting_interpreter_cannot_look_up_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")  # as an executor does

    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)
    error = await raised(RedisTransport("redis://never-seen.invalid").open())
    assert error.retryable
    assert "never-seen.invalid:6379: the interpreter exits" in str(error)


async def test_an_address_that_never_answers_can_be_given_a_timeout_of_its_own() -> None:
    # With its backlog full a listener lets further connections wait.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as stack:
        host, port = listener.getsockname()
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.settimeout(0)
            client.connect_ex((host, port))
        error = await raised(RedisTransport(f"redis://{host}:{port}?socket_connect_timeout=0.1").open())
        assert error.retryable
        assert "no answer in time" in str(error)


async def test_a_server_without_resp3_is_named_as_that_and_its_echo_of_the_password_is_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)

    async def like_redis_5(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.read(1024)).split(b"\r\n")[4:-1:2]
        quoted = b", ".join(b"`%b`" % word for word in request)
        writer.write(b"-ERR unknown command `HELLO`, with args beginning with: %b\r\n" % quoted)

    async with scripted(like_redis_5) as (address, gone), asyncio.timeout(DEADLINE_S):
        error = await raised(RedisTransport(f"redis://:s3cr3t@{address}?protocol=3").open())
        assert "knows no RESP3" in str(error)
        assert not error.retryable
        assert_no_secret(all_that_is_said(error), caplog.text)
        await gone.wait()


@pytest.mark.parametrize("with_tls", [False, True])
async def test_a_cancelled_open_leaves_no_socket(certificates: Certificates, *, with_tls: bool) -> None:
    context = None
    if with_tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificates.server.cert, certificates.server.key)
    there = asyncio.Event()

    async def only_come(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        there.set()

    async with scripted(only_come, context) as (address, gone), asyncio.timeout(DEADLINE_S):
        options = {"ssl_ca_certs": str(certificates.server.ca)} if with_tls else {}
        transport = RedisTransport(f"redis{'s' * with_tls}://{address}", connection_kwargs=options)
        opening = asyncio.ensure_future(transport.open())
        await there.wait()
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await gone.wait()


@pytest.mark.usefixtures("read_path")
async def test_a_torn_message_ends_the_link_and_is_not_quoted(caplog: pytest.LogCaptureFixture) -> None:
    answers = {
        b"HELLO": b"%3\r\n+proto\r\n:3\r\n+server\r\n$6\r\nvalkey\r\n+version\r\n$5\r\n9.1.1\r\n",
        b"PUBLISH": b"$6\r\ns3cr3t\r\n:1\r\n>3\r\n$7\r\nmessage\r\n$1\r\nc\r\n",
    }

    async def like_valkey_9_1_1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while count := (await reader.readline())[1:]:
            words = [await reader.readexactly(int((await reader.readline())[1:]) + 2) for _ in range(int(count))]
            writer.write(answers.get(words[0].strip(), b"+OK\r\n"))

    async with scripted(like_valkey_9_1_1) as (address, gone), asyncio.timeout(DEADLINE_S):
        async with reading(f"redis://{address}") as (link, heard):
            error = await raised(link.send([("c", b"s3cr3t")]))
            assert "use 9.1.2, or set min-string-size-avoid-copy-reply" in str(error)
            assert_no_secret(all_that_is_said(error), caplog.text)
            await heard.death()
            assert heard.frames == []
        await gone.wait()


@pytest.mark.usefixtures("read_path")
@pytest.mark.parametrize(
    "reply",
    [
        b"-s3cr3t torn\r\n",
        b"-S3CR3T torn\r\n",
        b">0\r\n",
        b">3\r\n$7\r\nmessage\r\n*1\r\n$6\r\ns3cr3t\r\n$6\r\ns3cr3t\r\n",
        b">3\r\n$9\r\nsubscribe\r\n:1\r\n:1\r\n",
        b"s3cr3t\r\n",
    ],
)
@pytest.mark.parametrize("command", [b"PUBLISH", b"SUBSCRIBE"])
async def test_a_reply_that_no_redis_sends_ends_the_link_and_is_neither_quoted_nor_logged(
    caplog: pytest.LogCaptureFixture, command: bytes, reply: bytes
) -> None:
    answers = {b"HELLO": b"%1\r\n$5\r\nproto\r\n:3\r\n", command: reply}

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while count := (await reader.readline())[1:]:
            words = [await reader.readexactly(int((await reader.readline())[1:]) + 2) for _ in range(int(count))]
            writer.write(answers.get(words[0].strip(), b"+OK\r\n"))

    async with scripted(talk) as (address, gone), asyncio.timeout(DEADLINE_S):
        async with reading(f"redis://{address}") as (link, heard):
            calls = {b"PUBLISH": link.send([("c", b"s3cr3t")]), b"SUBSCRIBE": link.subscribe(["c"])}
            error = await raised(calls.pop(command))
            calls.popitem()[1].close()
            death = await heard.death()
        await gone.wait()
    assert_no_secret(all_that_is_said(error).lower(), all_that_is_said(death).lower(), caplog.text.lower())
    assert caplog.records == []


class Provider(CredentialProvider):
    def __init__(self, give: Callable[[], Awaitable[tuple[str, str]]]) -> None:
        self._give = give

    def get_credentials(self) -> tuple[str, str]:
        raise NotImplementedError

    async def get_credentials_async(self) -> tuple[str, str]:
        return await self._give()


async def test_a_credential_provider_is_asked_at_each_open(start: StartServer) -> None:
    server = start(RedisServer(user="pod", password=SECRET))
    asked: list[str] = []

    async def give() -> tuple[str, str]:
        asked.append("once more")
        return "pod", SECRET

    transport = RedisTransport(
        f"redis://{server.host}:{server.port}", connection_kwargs={"credential_provider": Provider(give)}
    )
    for times in (1, 2):
        await (await transport.open()).aclose()
        assert len(asked) == times


async def test_a_credential_provider_that_fails_or_hangs_leaves_no_socket() -> None:
    async def fail() -> tuple[str, str]:
        raise LookupError("s3cr3t")

    async def hang() -> tuple[str, str]:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("unreachable")

    async with scripted(say_nothing) as (address, gone), asyncio.timeout(DEADLINE_S):
        transport = RedisTransport(f"redis://{address}", connection_kwargs={"credential_provider": Provider(fail)})
        error = await raised(transport.open())
        assert error.retryable
        assert "LookupError" in str(error)
        assert_no_secret(all_that_is_said(error))
        await gone.wait()
    async with scripted(say_nothing) as (address, gone), asyncio.timeout(DEADLINE_S):
        transport = RedisTransport(f"redis://{address}", connection_kwargs={"credential_provider": Provider(hang)})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await transport.open()
        await gone.wait()


@pytest.mark.every_loop
@pytest.mark.usefixtures("read_path")
async def test_tls_with_a_private_ca_works_by_query_and_by_options(
    start: StartServer, certificates: Certificates
) -> None:
    server = start(RedisServer(tls=certificates.server, password=SECRET))
    ca = str(certificates.server.ca)
    await round_trip(f"{server.url}?ssl_ca_certs={ca}")
    await round_trip(server.url.replace("rediss://", "valkeys://"), ssl_ca_certs=ca)


async def test_a_client_certificate_is_shown_where_the_server_wants_one(
    start: StartServer, certificates: Certificates
) -> None:
    tls = certificates.server
    server = start(RedisServer(tls=type(tls)(ca=tls.ca, cert=tls.cert, key=tls.key, verify_clients=True)))
    own = {"ssl_certfile": str(certificates.client.cert), "ssl_keyfile": str(certificates.client.key)}
    await round_trip(server.url, ssl_ca_certs=str(tls.ca), **own)
    transport = RedisTransport(server.url, connection_kwargs={"ssl_ca_certs": str(tls.ca)})
    error = await raised(transport.open())
    assert error.retryable
    assert f"{server.host}:{server.port}" in str(error)


async def test_an_untrusted_certificate_says_which_option_mends_it(certificates: Certificates) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.server.cert, certificates.server.key)
    async with scripted(say_nothing, context) as (address, _):
        transport = RedisTransport(
            f"rediss://:{QUOTED}@{address}", connection_kwargs={"ssl_ca_certs": str(certificates.strangers_ca)}
        )
        error = await raised(transport.open())
    assert type(error) is TransportError
    assert not error.retryable
    assert "ssl_ca_certs" in str(error)
    assert_no_secret(all_that_is_said(error))


async def test_tls_towards_a_port_that_answers_in_plain_text_says_so() -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"-ERR who are you\r\n")

    async with scripted(greet) as (address, gone), asyncio.timeout(DEADLINE_S):
        error = await raised(RedisTransport(f"rediss://{address}").open())
        assert "it speaks no TLS" in str(error)
        await gone.wait()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "must start with redis://"),
        ("s3cr3t", "must start with redis://"),
        ("localhost:6379", "must start with redis://"),
        ("http://localhost", "must start with redis://"),
        ("redis:/localhost", "must start with redis://"),
        ("redis://", "must hold a host"),
        ("redis://:6379", "must hold a host"),
        ("redis:///0", "must hold a host"),
        ("redis://user:s3cr3t@:6379/0", "must hold a host"),
        ("redis://host,other", "holds one host"),
        ("redis://user:s3cr3t@host,other", "holds one host"),
        ("redis://host/orders", "what stands behind the host and a slash is its number"),
        ("redis://user:s3cr3t@x@localhost", "percent-encode"),
        ("redis://localhost?password=s3cr3t&password=s3cr3t", "each option once"),
        ("redis://localhost/zero", "may hold a database"),
        ("redis://localhost/0/1", "may hold a database"),
        ("redis://user:s3cr3t@localhost/-1", "may hold a database"),
        ("redis://localhost:port", "percent-encode"),
        ("redis://localhost:0", "percent-encode"),
        ("redis://localhost:99999", "percent-encode"),
        ("redis://user:s3cr3t/2@localhost", "percent-encode"),
        ("redis://user:s3cr3t?2@localhost", "percent-encode"),
        ("redis://user:s3cr3t#2@localhost", "percent-encode"),
        ("redis://user:12?s3cr3t@localhost", "percent-encode"),
        ("redis://user:12?s3cr3t", "percent-encode"),
        ("redis://user:12/s3cr3t@localhost", "percent-encode"),
        ("redis://user:12#s3cr3t", "percent-encode"),
        ("redis://[s3cr3t:s3cr3t", "percent-encode"),
        ("unix://", "absolute path"),
        ("unix:///", "absolute path"),
        ("unix://tmp/redis.sock", "absolute path"),
        ("redis://localhost?dbb=1", "no option 'dbb'"),
        ("redis://user:s3cr3t@localhost?timeout=3", "no option 'timeout'"),
        ("redis://localhost?socket_timeout=3", "no option 'socket_timeout'"),
        ("redis://localhost?decode_responses=True", "no option 'decode_responses'"),
        ("redis://localhost?protocol=4", "protocol is 2 or 3"),
        ("redis://localhost?pasword=s3cr3t", "no option 'pasword'"),
        ("redis://localhost?host=", "no option 'host'"),
        ("redis://localhost?ssl_ca_certs=/x", "with rediss://"),
        ("unix:///s?socket_keepalive=1", "no option 'socket_keepalive'"),
        ("rediss://localhost?ssl_nonsense=s3cr3t", "ssl_nonsense"),
        ("rediss://:s3cr3t@localhost?ssl_ca_certs=/no/such/file", "No such file"),
        (
            "rediss://localhost?ssl_cert_reqs=CERT_NONE",
            "'ssl_cert_reqs' can't be used; allowed: none, optional, required",
        ),
        ("rediss://localhost?ssl_check_hostname=s3cr3t", "allowed: true, 1, yes, false, 0, no"),
        ("rediss://localhost?ssl_chek_hostname=false", "no option 'ssl_chek_hostname'; allowed: client_name"),
        ("redis://localhost?socket_keepalive=s3cr3t", "allowed: true"),
        ("redis://localhost?socket_keepalive_options=s3cr3t", "allowed: TCP_KEEPIDLE:60"),
        ("redis://localhost?credential_provider=s3cr3t", "goes into connection_kwargs"),
        ("redis://h1:7000,h2:7001", "several hosts go with redis-cluster://"),
        ("redis://localhost?db=one", "'db'"),
        ("redis://localhost/3?db=2", "sets 'db' a second time"),
        ("redis://:s3cr3t@localhost?password=s3cr3t2", "sets 'password' a second time"),
        ("redis://localhost?socket_connect_timeout=s3cr3t", "the value of 'socket_connect_timeout' can't be used"),
        ("redis://localhost?socket_connect_timeout=soon", "'socket_connect_timeout'"),
    ],
)
def test_a_wrong_url_is_refused_at_once_with_what_is_allowed_and_no_secret(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedisTransport(url)
    assert says in str(caught.value)
    assert_no_secret(all_that_is_said_of_the_error_alone(caught.value))


def all_that_is_said_of_the_error_alone(error: BaseException) -> str:
    """As `all_that_is_said`, without the test's own source lines, which hold the URL."""
    assert error.__context__ is None
    return f"{error} {error!r}"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pasword": "s3cr3t"}, "no option 'pasword'; allowed: client_name, credential_provider, db, password"),
        ({"decode_responses": True}, "no option 'decode_responses'"),
        ({"ssl_ca_certs": "/x"}, "with rediss://"),
        ({"password": "s3cr3t", "credential_provider": CredentialProvider()}, "credential_provider"),
    ],
)
def test_a_wrong_option_is_refused_at_once(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedisTransport("redis://localhost", connection_kwargs=options)
    assert says in str(caught.value)
    assert_no_secret(all_that_is_said_of_the_error_alone(caught.value))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"redis://pod:{QUOTED}@host:6380/1", "redis://pod:***@host:6380/1"),
        (f"rediss://:{QUOTED}@host", "rediss://:***@host:6379"),
        (f"valkey://{QUOTED}@host", "valkey://***@host:6379"),
        (f"redis://[::1]:6379?password={QUOTED}", "redis://[::1]:6379"),
        (f"unix://pod:{QUOTED}@/run/redis.sock", "unix://pod:***@/run/redis.sock"),
    ],
)
def test_a_transport_shows_its_url_without_secrets(url: str, shown: str) -> None:
    assert repr(RedisTransport(url)) == f"RedisTransport('{shown}')"


async def test_a_link_shows_its_address_and_no_secret(start: StartServer) -> None:
    server = start(RedisServer(user="pod", password=SECRET))
    async with reading(server.url) as (link, _):
        assert repr(link) == f"<RedisLink {server.host}:{server.port} live, 0 channels, 0 replies due>"


async def test_what_came_before_a_refusal_in_one_read_is_yielded_before_the_link_is_dead() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            words = [(await reader.readline(), await reader.readline())[1].strip() for _ in range(int(line[1:]))]
            if words[0] == b"HELLO":
                writer.write(b"%3\r\n+proto\r\n:3\r\n+server\r\n+redis\r\n+role\r\n+master\r\n")
            elif words[0] == b"SUBSCRIBE":
                writer.write(b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n")
            elif words[0] == b"PUBLISH":
                message = b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\n%d\r\n"
                writer.write(message % 1 + b":1\r\n" + message % 2 + b"-NOPERM no\r\n" + message % 3)
            else:
                writer.write(b"+OK\r\n")

    async with scripted(talk) as (where, _):
        link = await RedisTransport(f"redis://{where}").open()
        got: list[bytes] = []

        async def read() -> None:
            async for batch in link.receive():
                got.extend(frame[1] for frame in batch if isinstance(frame, tuple))

        reader = asyncio.create_task(read())
        await asyncio.sleep(0)
        await link.subscribe(["c"])
        told: list[int] = []
        sending = asyncio.create_task(link.send([("c", b"x"), ("c", b"y")]))
        sending.add_done_callback(lambda _: told.append(len(got)))
        async with asyncio.timeout(30):
            with pytest.raises(TransportError, match="NOPERM"):
                await sending
            with pytest.raises(TransportError, match="NOPERM"):
                await reader
        assert (got, told) == ([b"1", b"2"], [2]), "both, and before the sender was told"
        await link.aclose()
