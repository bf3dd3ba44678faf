"""A broker that lets the pod hear some targets and not others: who asks for those learns it, and nobody else pays."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from backplane_testservers import NatsServer, RedisServer

from tests.conftest import StartServer
from tests.product.asgi.servers import HTTP_PROTOCOLS, PREPARED, serve
from tests.product.asgi.test_browser import PAGE, page_of, sees
from tests.product.asgi.test_sse import stream
from tests.product.asgi.test_websocket import closed, receive

REDIS_ACL = (
    "user pod on >pw resetchannels &backplane &backplane:@user:ann &backplane:@connection:* "
    "&backplane:@???????????????????????????????? -@all +publish +subscribe +unsubscribe +client|setname"
)
ASK = '["backplane", "backplane.>"]'
HEAR = '["backplane", "backplane.@user.ann", "backplane.@connection.>", "backplane.*"]'
NATS_USER = f"{{user: pod, password: pw, permissions: {{publish: {ASK}, subscribe: {HEAR}}}}}"


def redis(start: StartServer) -> str:
    server = start(RedisServer(extra=[REDIS_ACL]))
    return f"redis://pod:pw@{server.host}:{server.port}"


def nats(start: StartServer) -> str:
    server = start(NatsServer(extra=[f"authorization: {{users: [{NATS_USER}]}}"]))
    return f"nats://pod:pw@{server.host}:{server.port}"


@pytest.mark.parametrize("broker", [redis, nats])
@pytest.mark.parametrize("ws", [PREPARED, "websockets-sansio"], ids=["prepared", "plain"])
async def test_a_client_whose_target_the_broker_denies_learns_it_and_the_others_go_on(
    start: StartServer, broker: Callable[[StartServer], str], ws: str
) -> None:
    async with (
        serve(broker(start), ws=ws, BACKPLANE_ROUTING="interest") as server,
        server.websocket("/ws?user=ann") as ann,
    ):
        for _ in range(2):
            async with server.websocket("/ws?user=eve") as eve:
                assert await closed(eve) == (1011, "this server is not allowed to hear what you asked for")
        await ann.send(json.dumps({"backplane": "subscribe", "target": "room:1"}))
        assert await receive(ann) == {"backplane": "refused", "target": "room:1", "reason": "not now"}
        await server.metric_is("backplane_connections", 1)
        assert await server.publish("user:ann", "here") == 1
        assert await receive(ann) == "here"
        assert await server.metric("backplane_ready") == 1
        assert "eve" in server.log, "the log says which it was"


DENIED = {
    "backplane": "closed",
    "code": 1011,
    "reason": "this server is not allowed to hear what you asked for",
}


@pytest.mark.parametrize("broker", [redis, nats])
@pytest.mark.parametrize("http", HTTP_PROTOCOLS)
async def test_a_stream_whose_target_the_broker_denies_says_so_and_is_not_asked_for_soon(
    start: StartServer, broker: Callable[[StartServer], str], http: str
) -> None:
    async with (
        serve(broker(start), http=http, BACKPLANE_ROUTING="interest") as server,
        stream(server, "/sse?user=ann") as ann,
    ):
        for _ in range(2):
            async with stream(server, "/sse?user=eve") as eve:
                assert eve.status == 200, "an EventSource would give up at another one"
                assert await eve.next() == ("closed", DENIED)
                assert await eve.next() == ("end", None)
                assert 15_000 <= eve.retry[-1] <= 45_000
        await server.metric_is('backplane_gateway_closed_total{transport="sse",code="1011"}', 2)
        await server.metric_is("backplane_connections", 1)
        assert await server.publish("user:ann", "here") == 1
        assert await ann.message() == "here"
        assert "eve" in server.log, "the log says which it was"


@pytest.mark.xdist_group("browser")
async def test_an_event_source_whose_target_the_broker_denies_learns_it_and_does_not_come_back_soon(
    start: StartServer, chromium: str
) -> None:
    async with serve(redis(start), BACKPLANE_ROUTING="interest") as server, page_of(server, chromium) as page:
        said = await page.evaluate("""() => new Promise((say) => {
          window.source = new EventSource("/sse?user=eve");
          source.addEventListener("closed", ({ data }) => say(data));
        })""")
        assert json.loads(said) == DENIED
        await page.wait_for_function("() => source.readyState === EventSource.CONNECTING")
        # Whoever asks at the end of a second finds it waiting: it comes back in 15 s at the earliest.
        await page.evaluate("() => new Promise((go) => setTimeout(go, 1000))")
        await server.metric_is('backplane_gateway_closed_total{transport="sse",code="1011"}', 1)


@pytest.mark.xdist_group("browser")
async def test_a_page_whose_stream_is_denied_knows_why_and_comes_back_less_and_less_often(
    start: StartServer, chromium: str
) -> None:
    async with serve(redis(start), BACKPLANE_ROUTING="interest") as server, page_of(server, chromium) as page:
        await page.evaluate("delete window.WebSocket")
        await page.evaluate(PAGE, ["/ws?user=eve", {"sse": "/sse?user=eve"}])
        await sees(page, ["state", "connecting", None], ["state", "connecting", 1011], ["state", "connecting", 1011])
        await page.wait_for_function("() => events.failures >= 3", timeout=60_000)
        await server.metric_is("backplane_connections", 0)


@pytest.mark.xdist_group("browser")
async def test_a_page_whose_target_the_broker_denies_comes_back_less_and_less_often(
    start: StartServer, chromium: str
) -> None:
    async with serve(redis(start), BACKPLANE_ROUTING="interest") as server, page_of(server, chromium) as page:
        await page.evaluate(PAGE, ["/ws?user=eve", {}])
        await sees(page, ["state", "connecting", 1011])
        await page.wait_for_function("() => events.failures >= 3", timeout=60_000)
        await server.metric_is("backplane_connections", 0)
