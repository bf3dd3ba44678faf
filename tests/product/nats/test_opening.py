# A repr inside is looked at.
# pyright: reportPrivateUsage=false
from __future__ import annotations

import asyncio
import gc
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest
from backplane_core import AuthenticationError, BackplaneError, ConfigurationError, Transport, TransportError, connect
from backplane_nats._settings import _STRINGS_ONLY  # pyright: ignore[reportPrivateUsage] -- what this nats-py can
from backplane_nats.jetstream import JetStreamTransport
from backplane_nats.transport import NatsTransport
from backplane_testservers import NatsServer, OwnBroker, free_port
from backplane_testservers.nats_keys import Operator, user_key
from backplane_testservers.tls import Certificates

from tests.conftest import StartServer
from tests.product.nats.helpers import PROMPT_S, listening, opened, speaking, tapped, texts_of
from tests.support.waiting import until

PASSWORD = "p@ss/w:rd?,#%"
ENCODED = "p%40ss%2Fw%3Ard%3F%2C%23%25"


async def failure_of(transport: NatsTransport) -> TransportError:
    """Open, promptly, and return the error."""
    async with asyncio.timeout(PROMPT_S):
        with pytest.raises(TransportError) as caught:
            await transport.open()
    return caught.value


async def works(url: str, **connection_kwargs: object) -> None:
    async with opened(url, connection_kwargs) as link, listening(link) as listener:
        await link.subscribe(["c"])
        await link.send([("c", b"1")])
        assert await listener.until(1) == [("c", b"1")]


async def test_traits_are_the_servers_own_after_opening(start: StartServer) -> None:
    server = start(NatsServer(max_payload=4096))
    transport = NatsTransport(server.url)
    assert isinstance(transport, Transport)
    assert (transport.traits.durable, transport.traits.confirms) == (False, True)
    assert transport.traits.max_payload_bytes == 1 << 20
    link = await transport.open()
    assert transport.traits.max_payload_bytes == 4096
    await link.aclose()


async def test_a_port_where_nobody_listens_is_reported_at_once() -> None:
    port = free_port()
    error = await failure_of(NatsTransport(f"nats://u:{ENCODED}@127.0.0.1:{port}"))
    assert error.retryable
    assert "nothing listens there: is the server running, and the port right?" in str(error)
    assert not isinstance(error, AuthenticationError)
    assert f"nats://u:***@127.0.0.1:{port}" in str(error)


async def test_a_host_without_a_name_is_reported_at_once() -> None:
    failure = await failure_of(NatsTransport("nats://nowhere.invalid"))
    assert "nowhere.invalid:4222: the host name has no address" in str(failure)


async def test_a_host_name_is_looked_up_although_an_exiting_interpreter_starts_no_thread(
    monkeypatch: pytest.MonkeyPatch, nats_server: OwnBroker
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")  # as an executor does

    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)
    await works(f"nats://localhost:{nats_server.port}")


async def test_a_dead_server_among_several_is_passed_over(nats_server: OwnBroker) -> None:
    dead = f"127.0.0.1:{free_port()}"
    async with asyncio.timeout(PROMPT_S):
        await works(f"nats://{dead},127.0.0.1:{nats_server.port}", dont_randomize=True)
        await works(f"nats://{dead},nats://127.0.0.1:{nats_server.port},{dead}")


async def test_a_silent_server_among_several_leaves_time_for_the_next(nats_server: OwnBroker) -> None:
    async with speaking(b"", then_close_after=None) as address, asyncio.timeout(2 * PROMPT_S):
        await works(f"nats://{address},127.0.0.1:{nats_server.port}", dont_randomize=True)


async def test_several_dead_servers_are_all_named() -> None:
    ports = free_port(), free_port()
    error = await failure_of(NatsTransport(f"nats://127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}"))
    assert all(str(port) in str(error) for port in ports)


async def test_user_and_password_are_percent_decoded_and_hold_for_all_servers(start: StartServer) -> None:
    server = start(NatsServer(user="ü@ser", password=PASSWORD))
    await works(server.url)
    await works(f"nats://%C3%BC%40ser:{ENCODED}@127.0.0.1:{free_port()},127.0.0.1:{server.port}")
    await works(f"nats://127.0.0.1:{server.port}", user="ü@ser", password=PASSWORD)


@pytest.mark.skipif("password" in _STRINGS_ONLY, reason="this nats-py takes no callable for a password")
async def test_a_password_may_come_from_a_callable(start: StartServer) -> None:
    server = start(NatsServer(user="u", password=PASSWORD))
    await works(f"nats://127.0.0.1:{server.port}", user="u", password=lambda: PASSWORD)


def test_a_callable_that_nats_py_would_not_call_is_refused_at_construction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backplane_nats._settings._STRINGS_ONLY", frozenset({"password"}))
    with pytest.raises(ConfigurationError, match=r"\['password'\] can't be a callable with this nats-py"):
        NatsTransport("nats://h", connection_kwargs={"user": "u", "password": lambda: PASSWORD})


async def test_a_token_is_taken_from_the_url(start: StartServer) -> None:
    server = start(NatsServer(token=PASSWORD))
    await works(f"nats://{ENCODED}@127.0.0.1:{server.port}")
    await works(f"nats://127.0.0.1:{server.port}", token=PASSWORD)


async def test_an_nkey_seed_is_taken_from_a_file_or_a_string(start: StartServer, tmp_path: Path) -> None:
    key = user_key()
    server = start(NatsServer(nkey=key.public))
    (tmp_path / "seed.nk").write_text(key.seed + "\n")
    await works(f"nats://127.0.0.1:{server.port}?nkey={tmp_path / 'seed.nk'}")
    await works(f"nats://127.0.0.1:{server.port}", nkeys_seed=str(tmp_path / "seed.nk"))
    await works(f"nats://127.0.0.1:{server.port}", nkeys_seed_str=key.seed)


async def test_a_creds_file_is_read_at_each_opening(start: StartServer, tmp_path: Path) -> None:
    operator = Operator()
    server = start(NatsServer(operator=operator))
    creds = tmp_path / "user.creds"
    creds.write_text(operator.new_credentials())
    transport = NatsTransport(f"nats://127.0.0.1:{server.port}?creds={creds}")
    await works(f"nats://127.0.0.1:{server.port}", user_credentials=str(creds))
    # Rotated by a stranger, gone, half written, and right again.
    creds.write_text(Operator().new_credentials())
    assert isinstance(await failure_of(transport), AuthenticationError)
    creds.unlink()
    assert str(creds) in str(error := await failure_of(transport))
    assert error.retryable
    creds.write_text(operator.new_credentials()[:40])
    assert (await failure_of(transport)).retryable
    creds.write_text(operator.new_credentials())
    link = await transport.open()
    await link.aclose()


@pytest.mark.parametrize(
    ("server", "login"),
    [
        (NatsServer(user="u", password=PASSWORD), ""),
        (NatsServer(user="u", password=PASSWORD), "u:wrong-7d2e@"),
        (NatsServer(user="u", password=PASSWORD), "wrong-7d2e@"),
        (NatsServer(token=PASSWORD), ""),
        (NatsServer(token=PASSWORD), "wrong-7d2e@"),
        (NatsServer(nkey=user_key().public), ""),
        (NatsServer(nkey=user_key().public), "u:wrong-7d2e@"),
    ],
)
async def test_wrong_and_missing_credentials_are_refused_without_being_quoted(
    start: StartServer, caplog: pytest.LogCaptureFixture, server: NatsServer, login: str
) -> None:
    start(server)
    transport = NatsTransport(f"nats://{login}127.0.0.1:{server.port}")
    error = await failure_of(transport)
    assert isinstance(error, AuthenticationError)
    assert not error.retryable
    assert "refused the credentials" in str(error)
    for text in (*texts_of(error), repr(transport), caplog.text):
        assert "7d2e" not in text


async def test_a_wrong_nkey_is_refused_without_being_quoted(
    start: StartServer, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    server = start(NatsServer(nkey=user_key().public))
    wrong = user_key().seed
    (tmp_path / "seed.nk").write_text(wrong)
    for transport in (
        NatsTransport(f"nats://127.0.0.1:{server.port}?nkey={tmp_path / 'seed.nk'}"),
        NatsTransport(f"nats://127.0.0.1:{server.port}", connection_kwargs={"nkeys_seed_str": wrong}),
        # Of the right form, but its checksum is not.
        NatsTransport(f"nats://127.0.0.1:{server.port}", connection_kwargs={"nkeys_seed_str": wrong[:-4] + "AAAA"}),
    ):
        error = await failure_of(transport)
        assert isinstance(error, AuthenticationError)
        for text in (*texts_of(error), repr(transport), caplog.text):
            assert wrong[4:20] not in text


@pytest.mark.skipif("password" in _STRINGS_ONLY, reason="this nats-py takes no callable for a password")
async def test_a_slow_provider_does_not_hold_the_loop(start: StartServer) -> None:
    server = start(NatsServer(user="u", password=PASSWORD))
    held, asked = threading.Event(), list[int]()

    def provider() -> str:
        asked.append(1)
        assert held.wait(30)
        return PASSWORD

    url = server.url.replace(f"u:{ENCODED}@", "")
    kwargs = {"user": "u", "password": provider}
    pod = await connect(url, wait=False, connect_timeout_s=0.2, connection_kwargs=kwargs)
    try:
        await until(
            lambda: "no answer in time" in (pod.ready().reason or ""), "an attempt that timed out: the loop runs"
        )
        assert len(asked) == 1
        held.set()
        await pod.wait_for_state("live", timeout_s=30)
    finally:
        await pod.aclose(drain_s=0)


@pytest.mark.skipif("password" in _STRINGS_ONLY, reason="this nats-py takes no callable for a password")
async def test_a_credentials_provider_that_fails_is_reported_by_type_alone(start: StartServer) -> None:
    server = start(NatsServer(user="u", password=PASSWORD))

    def provider() -> str:
        raise LookupError("vault says: 7d2e")

    transport = NatsTransport(
        server.url.replace(f"u:{ENCODED}@", ""), connection_kwargs={"user": "u", "password": provider}
    )
    error = await failure_of(transport)
    assert "LookupError" in str(error)
    assert not any("7d2e" in text for text in texts_of(error))


@pytest.mark.every_loop
async def test_tls_works_with_a_private_ca_and_says_which_option_is_missing_without(
    start: StartServer, certificates: Certificates
) -> None:
    server = start(NatsServer(tls=certificates.server, user="u", password=PASSWORD))
    await works(f"{server.url}?ca={certificates.server.ca}")
    await works(f"{server.url.replace('tls://', 'nats://')}?ca={certificates.server.ca}")
    await works(server.url, tls=ssl.create_default_context(cafile=certificates.server.ca))
    for url in (server.url, f"{server.url}?ca={certificates.strangers_ca}"):
        error = await failure_of(NatsTransport(url))
        assert not error.retryable
        assert "?ca=/path/ca.pem" in str(error)
        assert not any(PASSWORD in text or ENCODED in text for text in texts_of(error))


@pytest.mark.every_loop
async def test_a_link_over_tls_can_be_closed_while_the_server_is_frozen(
    start: StartServer, certificates: Certificates
) -> None:
    server = start(NatsServer(tls=certificates.server))
    async with opened(f"{server.url}?ca={certificates.server.ca}") as link:
        server.freeze()
        send = asyncio.create_task(link.send([("c", b"x" * 100_000)] * 100))
        await asyncio.wait({send}, timeout=0.1)
        async with asyncio.timeout(PROMPT_S):
            await link.aclose()
            with pytest.raises(TransportError):
                await send


async def test_a_server_that_wants_client_certificates_gets_one_from_connection_kwargs(
    start: StartServer, certificates: Certificates
) -> None:
    server = start(NatsServer(tls=attrs.evolve(certificates.server, verify_clients=True)))
    context = ssl.create_default_context(cafile=certificates.server.ca)
    await failure_of(NatsTransport(server.url, connection_kwargs={"tls": context}))
    context.load_cert_chain(certificates.client.cert, certificates.client.key)
    await works(server.url, tls=context)


@pytest.mark.parametrize("asked_by", ["scheme", "ca", "tls", "tls_hostname"])
async def test_whoever_configures_tls_sends_nothing_to_a_server_that_offers_none(
    start: StartServer, certificates: Certificates, asked_by: str
) -> None:
    server = start(NatsServer(user="u", password=PASSWORD))
    context = ssl.create_default_context(cafile=certificates.server.ca)
    options = {name: value for name, value in (("tls", context), ("tls_hostname", "h")) if name == asked_by}
    async with tapped(server.port) as (address, tap):
        url = f"{'tls' if asked_by == 'scheme' else 'nats'}://u:{ENCODED}@{address}"
        if asked_by == "ca":
            url += f"?ca={certificates.server.ca}"
        error = await failure_of(NatsTransport(url, connection_kwargs=options))
        assert "no TLS" in str(error)
        assert not error.retryable
        assert tap.said == b""


INFO = b'INFO {"server_id":"x","version":"2.10.0","max_payload":1024,"nonce":"n"}\r\n'


@pytest.mark.parametrize(
    ("greeting", "close_after"),
    [
        (b"", b""),
        (b"INFO {\r\n", b""),
        (INFO, b""),
        (INFO, b"PING"),
        (INFO + b"-ERR 'maximum connections exceeded'\r\n", b"PING"),
    ],
)
async def test_what_is_no_nats_server_is_an_error_and_not_a_link(greeting: bytes, close_after: bytes) -> None:
    async with speaking(greeting, then_close_after=close_after) as address:
        error = await failure_of(NatsTransport(f"nats://{address}"))
        assert error.retryable


@pytest.mark.parametrize("greeting", [b"", INFO, INFO.replace(b"{", b'{"tls_required":true,')])
async def test_a_cancelled_attempt_leaves_nothing(greeting: bytes) -> None:
    async with speaking(greeting, then_close_after=None) as address:
        attempt = asyncio.create_task(NatsTransport(f"nats://{address}").open())
        await asyncio.wait({attempt}, timeout=0.1)
        assert not attempt.done()
        attempt.cancel()
        async with asyncio.timeout(PROMPT_S):
            with pytest.raises(asyncio.CancelledError):
                await attempt


@pytest.mark.parametrize("turns", range(25))
async def test_an_attempt_cancelled_at_any_turn_leaves_nothing(nats_server: OwnBroker, turns: int) -> None:
    attempt = asyncio.create_task(NatsTransport(nats_server.url).open())
    for _ in range(turns):
        await asyncio.sleep(0)
    attempt.cancel()
    async with asyncio.timeout(PROMPT_S):
        try:
            link = await attempt
        except asyncio.CancelledError:
            return
        await link.aclose()


@pytest.mark.parametrize("turns", range(25))
async def test_an_attempt_cancelled_while_it_fails_leaves_no_unheard_error(turns: int) -> None:
    unheard: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context["message"]))
    attempt = asyncio.create_task(NatsTransport(f"nats://127.0.0.1:{free_port()}").open())
    for _ in range(turns):
        await asyncio.sleep(0)
    attempt.cancel()
    await asyncio.wait({attempt})
    assert attempt.cancelled() or attempt.exception()
    del attempt
    gc.collect()
    assert unheard == []


BAD_URLS = [
    "",
    "nats",
    "nats://",
    "redis://s3cret@h",
    "ws://u:s3cret@h",
    "nats://u:s3cret@",
    "nats://u:s3cret@h:port",
    "nats://u:s3cret@h:0",
    "nats://u:s3cret@h:99999",
    "nats://u:s3cret@h/path",
    "nats://u:s3cret@h#fragment",
    "nats://u:s3/cret@h",
    "nats://u:s3?cret@h",
    "nats://u:s3#cret@h",
    "nats://u:s3,cret@h",
    "nats://:s3cret@h",
    "nats://u:s3cret@h,,i",
    "nats://u:s3cret@h,redis://i",
    "nats://u:s3cret@h,tls://i",
    "tls://u:s3cret@h,nats://i",
    "nats://u:s3cret@h h",
    "nats://u:s3cret@[::1",
    "nats://u:s3cret@h?token=s3cret",
    "nats://u:s3cret@h?creds=",
    "nats://u:s3cret@h?creds=/nowhere/user.creds",
    "nats://u:s3cret@h?nkey=/nowhere/seed.nk",
    "nats://u:s3cret@h?ca=/nowhere/ca.pem",
    "nats://u:s3cret@h?ca=/dev/null",
    "nats://u:s3cret@h?creds=/dev/null",
    "nats://u:s3cret@h?nkey=/dev/null",
    "nats://u:s3cret@h?nkey=/dev/null&creds=/dev/null",
    "nats://u:s3cret@h?ca=/dev/null&ca=/dev/null",
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_bad_url_is_refused_at_construction_without_secrets(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        NatsTransport(url)
    for text in texts_of(caught.value):
        message = text.rpartition("ConfigurationError")[2]
        assert "s3" not in message
        assert "cret" not in message


@pytest.mark.parametrize("port", ["abc", "70000", "-1"])
def test_a_wrong_port_is_named_as_one(port: str) -> None:
    with pytest.raises(ConfigurationError, match="a port that is no number from 1 to 65535"):
        NatsTransport(f"nats://localhost:{port}")


def test_servers_of_which_some_alone_ask_for_tls_disagree() -> None:
    for transport, suffix in ((NatsTransport, ""), (JetStreamTransport, "+jetstream")):
        with pytest.raises(ConfigurationError, match=r"disagree.*take tls://"):
            transport(f"nats{suffix}://h,tls://i")


@pytest.mark.parametrize("path", ["user.creds", "seed.nk", "ca.pem"])
def test_a_missing_file_is_named(tmp_path: Path, path: str) -> None:
    option = {"user.creds": "creds", "seed.nk": "nkey", "ca.pem": "ca"}[path]
    with pytest.raises(ConfigurationError, match=path):
        NatsTransport(f"nats://h?{option}={tmp_path / path}")


@pytest.mark.parametrize(
    ("kwargs", "reason"),
    [
        ({"allow_reconnect": True}, "hides gaps"),
        ({"error_cb": print}, "on_state"),
        ({"connect_timeout": 3}, "connect_timeout_s"),
        ({"no_echo": True}, "beats"),
        ({"servers": ["nats://h"]}, "the URL"),
        ({"tls_ca": "x"}, "tls_hostname"),
        ({"discovered_server_cb": print}, "async"),
        ({"nkeys_seed": "/nowhere/seed.nk"}, "/nowhere/seed.nk"),
        ({"nkeys_seed_str": "s3cret"}, "nkey seed"),
        ({"user_credentials": ("/nowhere/a.jwt", "/nowhere/b.nk")}, "/nowhere/a.jwt"),
        ({"user": "v", "password": "s3cret"}, "give it once"),
    ],
)
def test_a_bad_connection_option_is_refused_at_construction_with_the_reason(
    kwargs: dict[str, object], reason: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        NatsTransport("nats://u:pw@h", connection_kwargs=kwargs)
    assert reason in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://h", "nats://h:4222"),
        ("tls://h:1,i", "tls://h:1,tls://i:4222"),
        ("nats://u:s3cret@h,i", "nats://u:***@h:4222,nats://u:***@i:4222"),
        ("nats://u:s3cret@h,nats://i", "nats://u:***@h:4222,nats://i:4222"),
        ("nats://s3cret@[::1]:5", "nats://***@[::1]:5"),
        ("nats://a:s3cret@h,nats://b:s3cret@i", "nats://a:***@h:4222,nats://b:***@i:4222"),
    ],
)
def test_a_transport_shows_its_servers_without_secrets(url: str, shown: str) -> None:
    transport = NatsTransport(url)
    assert repr(transport) == f"NatsTransport('{shown}')"
    assert "s3cret" not in repr(transport._settings)


def test_every_error_is_a_backplane_error() -> None:
    with pytest.raises(BackplaneError):
        NatsTransport("nats://")
