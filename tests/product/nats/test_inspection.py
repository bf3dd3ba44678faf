"""What a server says of itself to those who operate it, and which of its settings a fleet should know."""

from __future__ import annotations

from typing import Any

import pytest
from backplane_core import AuthenticationError, InspectableTransport, TransportError
from backplane_nats import JetStreamTransport, NatsTransport
from backplane_nats._inspection import Greeting
from backplane_nats._url import Server
from backplane_testservers import NatsCluster, NatsServer, free_port

from tests.conftest import StartServer

SAFE = {"version": "2.11.0", "max_payload": 1 << 20, "auth_required": True, "tls_required": True}


@pytest.mark.parametrize(
    ("info", "nodes", "said"),
    [
        (SAFE, 0, []),
        (SAFE, 3, []),
        ({}, 0, []),
        ({"version": "2.11.0"}, 0, ["user of their own", "tls://"]),
        (SAFE | {"version": "2.9.25"}, 0, ["2.10"]),
        (SAFE | {"max_payload": 65_536}, 0, ["65536"]),
        (SAFE, 2, ["use three"]),
        (SAFE | {"auth_required": False}, 0, ["user of their own"]),
        (SAFE | {"tls_required": False}, 0, ["tls://"]),
    ],
)
def test_a_setting_under_which_a_fleet_can_count_on_less_is_named(
    info: dict[str, Any], nodes: int, said: list[str]
) -> None:
    greeting = Greeting(server=Server("nats", "nats.example", 4222, {}), info=info, nodes=nodes, is_clustered=nodes > 1)
    advice = greeting.report().advice
    assert len(advice) == len(said)
    assert all(part in text for part, text in zip(said, advice, strict=True))


async def test_a_server_says_what_it_is(start: StartServer, leaves_nothing: None) -> None:
    server = start(NatsServer(max_payload=65_536))
    transport = NatsTransport(server.url)
    assert isinstance(transport, InspectableTransport)
    report = await transport.inspect()
    assert report.server.startswith("NATS 2.")
    assert report.server.endswith(f":{server.port}, alone")
    (advice,) = report.advice
    assert "its max_payload is 65536 bytes" in advice


async def test_a_node_says_of_how_many_it_is_one(shared_nats_cluster: NatsCluster, leaves_nothing: None) -> None:
    report = await NatsTransport(shared_nats_cluster.url).inspect()
    assert report.server.endswith(", one of 3 nodes")


async def test_a_log_without_jetstream_is_named(nats_url: str, shared_jetstream: NatsServer) -> None:
    (advice,) = (await JetStreamTransport(nats_url.replace("://", "+jetstream://", 1)).inspect()).advice
    assert "start it with -js" in advice
    url = shared_jetstream.url.replace("://", "+jetstream://", 1)
    assert (await JetStreamTransport(url).inspect()).advice == []
    (advice,) = (await JetStreamTransport(url, storage="memory").inspect()).advice
    assert "storage='file'" in advice


async def test_a_server_that_is_not_there_or_refuses_is_an_error(start: StartServer, leaves_nothing: None) -> None:
    with pytest.raises(TransportError, match=r"127\.0\.0\.1"):
        await NatsTransport(f"nats://127.0.0.1:{free_port()}").inspect()
    server = start(NatsServer(user="pod", password="right"))
    with pytest.raises(AuthenticationError) as refused:
        await NatsTransport(server.url.replace("right", "wr0ng")).inspect()
    assert "wr0ng" not in str(refused.value)
