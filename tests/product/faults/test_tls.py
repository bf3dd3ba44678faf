"""TLS that goes bad: expired, another host's, none at all. Nothing of ours is sent before it is verified."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Final

import pytest
import trustme
from attrs import frozen
from backplane_core import TransportError, connect
from backplane_testservers import Kind, NatsServer, ProcessBroker, Proxy, RedisServer, Tls

from tests.conftest import StartServer
from tests.product.faults.rig import Rig
from tests.support.waiting import until

SECRET: Final = "s3cr3t-pass"
LONG_AGO: Final = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


@frozen
class Authority:
    """A CA, and certificates of its that differ in what is wrong with them."""

    ca: Path
    good: Tls
    expired: Tls
    elsewhere: Tls


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    directory = tmp_path_factory.mktemp("authority")
    ca = trustme.CA()
    ca_path = directory / "ca.pem"
    ca.cert_pem.write_to_path(ca_path)

    def write(name: str, issued: trustme.LeafCert) -> Tls:
        tls = Tls(ca=ca_path, cert=directory / f"{name}.pem", key=directory / f"{name}.key")
        issued.cert_chain_pems[0].write_to_path(tls.cert)
        issued.private_key_pem.write_to_path(tls.key)
        return tls

    return Authority(
        ca_path,
        write("good", ca.issue_cert("localhost", "127.0.0.1")),
        write(
            "expired",
            ca.issue_cert("localhost", "127.0.0.1", not_before=LONG_AGO, not_after=LONG_AGO + dt.timedelta(days=90)),
        ),
        write("elsewhere", ca.issue_cert("elsewhere.example")),
    )


def tls_of(authority: Authority, what: str) -> Tls | None:
    tls: dict[str, Tls | None] = {
        "expired": authority.expired,
        "another host's": authority.elsewhere,
        "none at all": None,
    }
    return tls[what]


def server(kind: Kind, tls: Tls | None) -> ProcessBroker:
    if kind == "redis":
        return RedisServer(password=SECRET, tls=tls)
    return NatsServer(user="pod", password=SECRET, tls=tls)


def url(kind: Kind, proxy: Proxy, ca: Path) -> str:
    scheme, option = {"redis": ("rediss", "ssl_ca_certs"), "nats": ("tls", "ca")}[kind]
    user = {"redis": "", "nats": "pod"}[kind]
    return f"{scheme}://{user}:{SECRET}@127.0.0.1:{proxy.port}?{option}={ca}"


WRONG = ["expired", "another host's", "none at all"]


@pytest.mark.parametrize("kind", ["redis", "nats"])
@pytest.mark.parametrize("what", WRONG)
async def test_a_pod_does_not_start_over_bad_tls_and_says_nothing_in_clear(
    leaves_nothing: None, start: StartServer, authority: Authority, kind: Kind, what: str
) -> None:
    broker = start(server(kind, tls_of(authority, what)))
    with Proxy(broker.host, broker.port) as proxy:
        said = bytearray()
        proxy.up.tap = said.extend
        with pytest.raises(TransportError) as refused:
            await connect(url(kind, proxy, authority.ca), connect_timeout_s=3)
    assert len(proxy.accepted_at) >= 1
    if what != "none at all":
        assert not refused.value.retryable
        assert "certificate" in str(refused.value)
    assert SECRET.encode() not in said
    assert b"AUTH" not in said
    assert b"HELLO" not in said
    assert b"CONNECT" not in said


@pytest.fixture
def broker(request: pytest.FixtureRequest, start: StartServer, authority: Authority) -> ProcessBroker:
    return start(server(request.param, authority.good))


@pytest.mark.parametrize("broker", ["redis", "nats"], indirect=True)
@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("routing", ["broadcast"], indirect=True)
async def test_a_pod_whose_broker_comes_back_with_bad_tls_sends_nothing_until_it_is_good_again(
    rig: Rig, broker: ProcessBroker, authority: Authority, what: str
) -> None:
    proxy = rig.proxy()
    here = await rig.pod_at(url(broker.kind, proxy, authority.ca))
    there = await rig.pod_at(url(broker.kind, proxy, authority.ca))
    rig.targets = 1
    far = await rig.socket(there, "u0")
    await rig.publish(here, 10)
    await until(lambda: len(far.events) == 10, "traffic before")
    broker.kill()
    await rig.all_degraded()
    broker.tls = tls_of(authority, what)
    broker.start()
    said = bytearray()
    proxy.up.tap = said.extend
    attempts = len(proxy.accepted_at)
    await rig.publish(here, 10)
    await until(lambda: len(proxy.accepted_at) >= attempts + 2, "it tries", 60)
    await until(lambda: bool(said) or broker.kind == "nats", "and says hello; on NATS the server speaks first")
    assert not any(pod.is_live for pod in rig.pods)
    for words in (SECRET, rig.options["channel"], rig.options["channel"].replace(":", ".")):
        assert words.encode() not in said
    broker.kill()
    broker.tls = authority.good
    broker.start()
    await rig.settle()
    rig.ledger.assert_clean()
    assert here.backplane.stats().dropped == {}
