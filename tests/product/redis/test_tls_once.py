"""A TLS context is expensive: a transport makes one, off the loop, however often it connects."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
from backplane_core import ConfigurationError, connect
from backplane_testservers import RedisServer
from backplane_testservers.tls import Certificates

from tests.conftest import StartServer


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


async def test_reconnecting_makes_no_context(
    start: StartServer, certificates: Certificates, makers: list[threading.Thread]
) -> None:
    server = start(RedisServer(tls=certificates.server))
    async with connect(f"{server.url}?ssl_ca_certs={certificates.server.ca}") as pod:
        for _ in range(2):
            server.restart()
            await pod.wait_for_state("degraded", timeout_s=30)
            await pod.wait_for_state("live", timeout_s=30)
        assert pod.stats().links >= 3
    assert len(makers) == 1
    assert makers[0] is not threading.current_thread()


async def test_what_can_be_seen_of_files_is_wrong_before_anything_is_opened(
    tmp_path: Path, certificates: Certificates, makers: list[threading.Thread]
) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    for query, shown in [
        (f"ssl_ca_certs={tmp_path}/missing.pem", "No such file"),
        (f"ssl_ca_certs={junk}", "ssl_ca_certs holds no PEM certificate"),
        (f"ssl_certfile={junk}", "can't be used"),
        (f"ssl_ca_path={tmp_path}/missing", "ssl_ca_path"),  # which older redis-py does not know
        ("ssl_ciphers=none-of-these", "can't be used"),
    ]:
        with pytest.raises(ConfigurationError, match=shown):
            connect(f"rediss://localhost?{query}")
    assert makers == []
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n")
    with pytest.raises(ConfigurationError, match="TLS options"):
        await connect(f"rediss://localhost?ssl_ca_certs={broken}")
