"""Where servers are reached: names with several addresses, announced ones that lead nowhere, TLS without stalls."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
from backplane_core import AdapterNotInstalledError, ConfigurationError, Target, TransportError, connect
from backplane_core.sockets import AddressMap
from backplane_nats import NatsTransport
from backplane_nats._settings import Settings
from backplane_testservers import NatsCluster, NatsServer
from backplane_testservers.tls import Certificates

from tests.conftest import StartServer
from tests.support.deaf import deaf_address, resolve
from tests.support.sockets import attach

USER = Target.user("u1")


async def check_events_pass(url: str, **options: Any) -> None:
    """Two pods on this URL hear each other."""
    async with connect(url, **options) as here, connect(url, **options) as there:
        socket = await attach(here, "c1", USER)
        await there.publish(USER, 1)
        assert await socket.has(1) == [1]


@pytest.mark.every_loop
async def test_a_name_whose_first_address_swallows_packets_is_connected_to(
    start: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(NatsServer())
    resolve(monkeypatch, "nats.internal", "127.0.0.2", "127.0.0.1")
    with deaf_address("127.0.0.2", server.port):
        await check_events_pass(f"nats://nats.internal:{server.port}")


async def test_a_name_is_what_the_certificate_must_hold_whatever_address_was_taken(
    start: StartServer, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(NatsServer(tls=certificates.server))
    resolve(monkeypatch, "nats.internal", "127.0.0.1")
    with pytest.raises(TransportError, match=r"nats\.internal"):
        await connect(f"tls://nats.internal:{server.port}?ca={certificates.server.ca}", connect_timeout_s=2)
    await check_events_pass(f"tls://nats.internal:{server.port}?ca={certificates.server.ca}&tls_hostname=localhost")


def test_an_announced_address_is_reached_where_the_map_says_and_keeps_the_name_it_is_checked_for() -> None:
    (server,) = Settings.parse("tls://nats.example:4222", None).servers
    addresses = AddressMap.parse("10.0.0.5:4222=localhost:7001,n2.internal=gateway")
    found = server.neighbour("10.0.0.5:4222", addresses)
    assert found is not None
    assert (found.address, found.tls_name) == ("tls://localhost:7001", "nats.example")
    other = server.neighbour("n2.internal:4223", addresses)
    assert other is not None
    assert (other.address, other.tls_name) == ("tls://gateway:4223", None)


async def test_a_pod_moves_to_an_announced_server_by_the_map(nats_cluster: NatsCluster) -> None:
    first, second, third = nats_cluster.nodes
    gone = "127.0.0.9"
    # As if the others announced what leads nowhere: each announced host is mapped to where it listens.
    transport = NatsTransport(f"{first.url}?address_map={first.host}={gone},{gone}={first.host}")
    found = transport._settings.servers[0].neighbour(f"{gone}:{second.port}", transport._settings.addresses)  # pyright: ignore[reportPrivateUsage]
    assert found is not None
    assert found.address == f"nats://{first.host}:{second.port}"
    assert third.port != second.port


@pytest.fixture
def makers(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads in which a context was made that loads the CAs of the system."""
    made: list[threading.Thread] = []
    original = ssl.create_default_context

    def create(*args: Any, **kwargs: Any) -> ssl.SSLContext:
        made.append(threading.current_thread())
        return original(*args, **kwargs)

    monkeypatch.setattr(ssl, "create_default_context", create)
    return made


@pytest.mark.parametrize("asked_by", ["url", "server"])
async def test_reconnecting_makes_no_context(
    start: StartServer,
    certificates: Certificates,
    makers: list[threading.Thread],
    monkeypatch: pytest.MonkeyPatch,
    asked_by: str,
) -> None:
    server = start(NatsServer(tls=certificates.server))
    url = f"{server.url}?ca={certificates.server.ca}"
    if asked_by == "server":  # nothing in the URL says TLS: the server's INFO does
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates.server.ca))
        url = f"nats://{server.host}:{server.port}"
    async with connect(url) as pod:
        for _ in range(2):
            server.restart()
            await pod.wait_for_state("degraded", timeout_s=30)
            await pod.wait_for_state("live", timeout_s=30)
    assert len(makers) == 1
    assert makers[0] is not threading.current_thread()


async def test_a_server_that_wants_the_handshake_first_is_connected_to_by_url_and_named_without(
    start: StartServer, certificates: Certificates
) -> None:
    tls = certificates.server
    lines = [f'tls {{ cert_file: "{tls.cert}", key_file: "{tls.key}", handshake_first: true }}']
    server = start(NatsServer(extra=lines))
    url = f"tls://localhost:{server.port}?ca={tls.ca}"
    await check_events_pass(f"{url}&tls_handshake_first=true")
    with pytest.raises(TransportError, match="tls_handshake_first=true"):
        await connect(url, connect_timeout_s=5)


async def test_a_client_certificate_stands_in_the_url(start: StartServer, certificates: Certificates) -> None:
    server = start(NatsServer(tls=certificates.server.verifying_clients()))
    files = f"ca={certificates.server.ca}&cert={certificates.client.cert}&key={certificates.client.key}"
    await check_events_pass(f"{server.url}?{files}&name=web&dont_randomize=true")


def test_each_option_that_is_text_may_stand_in_the_query() -> None:
    options = Settings.parse("nats://h?name=web&tls_hostname=n&tls_handshake_first=true&dont_randomize=false", None)
    assert options.options == {
        "name": "web",
        "tls_hostname": "n",
        "tls_handshake_first": True,
        "dont_randomize": False,
    }
    with pytest.raises(ConfigurationError, match="tls_handshake_first must be true or false"):
        Settings.parse("nats://h?tls_handshake_first=maybe", None)
    with pytest.raises(ConfigurationError, match="key and no cert"):
        Settings.parse("nats://h?key=/k.pem", None)
    with pytest.raises(ConfigurationError, match="both map addresses"):
        Settings.parse("nats://h?address_map=a=b", None, "a=b")
    with pytest.raises(ConfigurationError, match="give it once"):
        Settings.parse("nats://h?name=a", {"name": "b"})


def test_a_client_certificate_that_can_not_be_used_is_an_error_at_once(tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    for query in (f"cert={junk}", f"cert={tmp_path}/missing"):
        with pytest.raises(ConfigurationError, match="client certificate"):
            Settings.parse(f"nats://h?{query}", None)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_websocket_is_said_to_be_unsupported(scheme: str) -> None:
    with pytest.raises(AdapterNotInstalledError, match="WebSocket is not supported"):
        connect(f"{scheme}://user:secret@h")
    with pytest.raises(ConfigurationError, match="WebSocket servers are not supported"):
        NatsTransport(f"{scheme}://h")


@pytest.mark.parametrize(("scheme", "meant"), [("redis+socket", "unix:///"), ("redis+cluster", "redis-cluster://")])
def test_a_scheme_that_an_installed_adapter_does_not_know_is_not_said_to_be_installable(
    scheme: str, meant: str
) -> None:
    with pytest.raises(AdapterNotInstalledError) as error:
        connect(f"{scheme}://h")
    assert "pip install" not in str(error.value)
    assert meant in str(error.value)
