"""A broker that lets the pod hear some targets and not others: who asks for those learns it, and nobody else pays."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from backplane_testservers import NatsServer, RedisServer

from tests.conftest import StartServer
from tests.product.asgi.servers import PREPARED, serve
from tests.product.asgi.test_browser import PAGE, page_of
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
            stream = await server.get("/sse?user=eve")  # it begins, and ends
            assert stream.status_code == 200
            assert "data:" not in stream.text
        await ann.send(json.dumps({"backplane": "subscribe", "target": "room:1"}))
        assert await receive(ann) == {"backplane": "refused", "target": "room:1", "reason": "not now"}
        await server.metric_is("backplane_connections", 1)
        assert await server.publish("user:ann", "here") == 1
        assert await receive(ann) == "here"
        assert await server.metric("backplane_ready") == 1
        assert "eve" in server.log, "the log says which it was"


@pytest.mark.xdist_group("browser")
async def test_a_page_whose_target_the_broker_denies_comes_back_less_and_less_often(
    start: StartServer, chromium: str
) -> None:
    async with serve(redis(start), BACKPLANE_ROUTING="interest") as server, page_of(server, chromium) as page:
        await page.evaluate(PAGE, ["/ws?user=eve", {}])
        await page.wait_for_function("() => events.failures >= 3", timeout=60_000)
        await server.metric_is("backplane_connections", 0)
