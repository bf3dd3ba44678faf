"""What can be wrong at start is told in time, by the right error, with what to do next, and without a secret."""

from __future__ import annotations

import asyncio
import io
import logging
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from backplane_core import (
    AdapterNotInstalledError,
    AuthenticationError,
    ConfigurationError,
    Target,
    TransportError,
    connect,
    connect_from_env,
)
from backplane_testservers import Kind, NatsServer, RedisServer, free_port
from backplane_testservers.streams import serve
from backplane_testservers.tls import Certificates

from tests.conftest import StartServer

SECRET = "s3cr3t-pass"  # what must be seen nowhere
TIMEOUT_S = 2.0
TARGET = Target.connection("c1")


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """All that any logger writes, down to DEBUG, tracebacks included."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield text
    root.removeHandler(handler)
    root.setLevel(level)


def everything(error: BaseException) -> str:
    """All that a person or a log collector could see of an error: texts, reprs, causes, contexts."""
    seen: list[str] = []
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is not None:
            seen += [str(one), repr(one), repr(one.args), *traceback.format_exception(one)]
            pending += [one.__cause__, one.__context__]
    return "\n".join(seen)


async def fails(url: str, written: io.StringIO, **options: Any) -> tuple[BaseException, float]:
    """Return the error that connecting raises, and after how long; assert that no secret was seen."""
    started = time.monotonic()
    with pytest.raises(Exception) as raised:
        async with connect(url, connect_timeout_s=TIMEOUT_S, **options):
            pass
    took = time.monotonic() - started
    assert SECRET not in everything(raised.value)
    assert SECRET not in written.getvalue()
    return raised.value, took


def server(kind: Kind, **options: Any) -> RedisServer | NatsServer:
    return RedisServer(**options) if kind == "redis" else NatsServer(**options)


@pytest.mark.parametrize("kind", ["redis", "nats"])
async def test_a_wrong_password_is_an_authentication_error(
    start: StartServer, kind: Kind, written: io.StringIO, leaves_nothing: None
) -> None:
    broker = start(server(kind, user="pod", password="right"))
    error, took = await fails(f"{kind}://pod:{SECRET}@{broker.host}:{broker.port}", written)
    assert isinstance(error, AuthenticationError)
    assert took < TIMEOUT_S


@pytest.mark.parametrize("kind", ["redis", "nats"])
async def test_a_missing_password_is_an_authentication_error(
    start: StartServer, kind: Kind, written: io.StringIO, leaves_nothing: None
) -> None:
    broker = start(server(kind, user="pod", password=SECRET))
    error, took = await fails(f"{kind}://{broker.host}:{broker.port}", written)
    assert isinstance(error, AuthenticationError)
    assert took < TIMEOUT_S


@pytest.mark.parametrize("kind", ["redis", "nats"])
async def test_a_certificate_of_an_unknown_authority_is_an_error_that_no_retry_mends(
    start: StartServer, kind: Kind, certificates: Certificates, written: io.StringIO, leaves_nothing: None
) -> None:
    broker = start(server(kind, tls=certificates.server))
    scheme = {"redis": "rediss", "nats": "tls"}[kind]
    option = {"redis": "ssl_ca_certs", "nats": "ca"}[kind]
    url = f"{scheme}://localhost:{broker.port}?{option}={certificates.strangers_ca}"
    error, took = await fails(url, written)
    assert isinstance(error, TransportError)
    assert not error.retryable
    assert "certificate" in str(error)
    assert took < TIMEOUT_S


@pytest.mark.parametrize("kind", ["redis", "nats"])
async def test_a_dead_broker_is_a_transport_error_within_the_timeout_that_names_the_address(
    kind: Kind, written: io.StringIO, leaves_nothing: None
) -> None:
    port = free_port()
    error, took = await fails(f"{kind}://pod:{SECRET}@127.0.0.1:{port}", written)
    assert isinstance(error, TransportError)
    assert f"127.0.0.1:{port}" in str(error)
    assert took < TIMEOUT_S + 1


@pytest.mark.parametrize("kind", ["redis", "nats"])
async def test_a_broker_that_never_answers_is_a_transport_error_within_the_timeout(
    kind: Kind, written: io.StringIO, leaves_nothing: None
) -> None:

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serve(say_nothing) as port:
        error, took = await fails(f"{kind}://pod:{SECRET}@127.0.0.1:{port}", written)
    assert isinstance(error, TransportError)
    assert "no answer yet" in str(error)
    assert f"127.0.0.1:{port}" in str(error)
    assert took < TIMEOUT_S + 1


@pytest.mark.parametrize("kind", ["redis", "nats"])
async def test_a_broker_that_comes_up_while_we_try_is_found(kind: Kind, start: StartServer) -> None:
    broker = server(kind)
    start(broker)
    broker.kill()
    connecting = asyncio.ensure_future(connect(broker.url, connect_timeout_s=10).__aenter__())
    await asyncio.sleep(0)
    broker.restart()
    backplane = await connecting
    assert backplane.state == "live"
    await backplane.aclose()


# As a checker can't see them.
WRONG_NAME: dict[str, Any] = {"chanel": "x"}
WRONG_VALUE: dict[str, Any] = {"routing": "multicast"}
WRONG: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "an unknown option": (lambda: connect("redis://h", **WRONG_NAME), ConfigurationError, "channel"),
    "a wrong value": (
        lambda: connect("nats://h", **WRONG_VALUE),
        ConfigurationError,
        "'broadcast' or 'interest'",
    ),
    "a channel with a wildcard": (lambda: connect("nats://h", channel="a.*"), ConfigurationError, "words of"),
    "no scheme": (lambda: connect("localhost:6379"), ConfigurationError, "redis://"),
    "an unknown scheme": (lambda: connect(f"kafka://u:{SECRET}@h"), AdapterNotInstalledError, "redis://"),
    "a bad port": (lambda: connect(f"redis://u:{SECRET}@h:port"), ConfigurationError, "redis"),
    "a bad port of NATS": (lambda: connect(f"nats://u:{SECRET}@h:port"), ConfigurationError, "NATS"),
    "a slash in a password": (lambda: connect(f"redis://u:{SECRET}/@h"), ConfigurationError, "percent-encode"),
    "lanes with interest": (lambda: connect("redis://h", routing="interest", lanes=2), ConfigurationError, "lanes"),
    "an unknown client option": (
        lambda: connect("nats://h", connection_kwargs={"pasword": SECRET}),
        ConfigurationError,
        "password",
    ),
    "an unknown kind": (lambda: connect_from_env({"BACKPLANE": "rabbit"}), ConfigurationError, "redis"),
    "kind and scheme that disagree": (
        lambda: connect_from_env({"BACKPLANE": "redis", "BACKPLANE_URL": f"nats://u:{SECRET}@h"}),
        ConfigurationError,
        "redis://",
    ),
    "no URL": (lambda: connect_from_env({"BACKPLANE": "nats"}), ConfigurationError, "BACKPLANE_NATS_URL"),
}


@pytest.mark.parametrize(("make", "kind", "hint"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_in_the_configuration_is_told_before_anything_is_opened(
    make: Callable[[], Any], kind: type[Exception], hint: str, written: io.StringIO
) -> None:
    with pytest.raises(kind) as raised:
        make()
    assert hint in str(raised.value)
    assert SECRET not in everything(raised.value)
    assert SECRET not in written.getvalue()


@pytest.mark.parametrize("kind", ["redis", "nats"])
async def test_neither_secret_nor_payload_is_ever_written(
    start: StartServer, kind: Kind, written: io.StringIO, channel: str
) -> None:
    payload = "the-payload-itself"

    def refuses(event: object) -> None:
        raise ValueError(event)

    broker = start(server(kind, user="pod", password=SECRET))
    async with connect(f"{kind}://pod:{SECRET}@{broker.host}:{broker.port}", channel=channel) as pod:
        await pod.attach("c1", refuses)
        async with pod.connection("c2") as connection:
            for _ in range(3):
                await pod.publish([TARGET, Target.connection("c2")], {"x": payload})
            assert payload not in repr(await anext(connection))
        for bad in (payload.encode(), {payload.encode()}, f"{payload}\ud800"):
            with pytest.raises(TypeError) as raised:
                await pod.publish(TARGET, bad)
            assert payload not in everything(raised.value)
        broker.kill()
        await pod.wait_for_state("degraded", timeout_s=10)
        shown = [repr(pod), repr(pod.stats()), repr(pod.ready()), repr(vars(pod))]
        await pod.aclose(drain_s=0)
    for text in (*shown, written.getvalue()):
        assert SECRET not in text
    for text in (*shown[:3], written.getvalue()):
        assert payload not in text
