"""A client that is connected shows a fresh token: what it hears follows that one, and its socket lives as long."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from backplane_asgi import Grant, Message, Request, websocket_endpoint
from backplane_asgi._sockets.hub import hub_of
from backplane_core import InMemoryBackplane, Target

from tests.product.asgi.servers import Server, serve
from tests.product.asgi.test_websocket import WAYS, closed, receive


async def ask(socket: Any, **message: Any) -> Any:
    await socket.send(json.dumps(message))
    return await receive(socket)


def lasting(seconds: float, user: str = "ann", *rooms: str) -> str:
    return f"{user}~{time.time() + seconds}~{'.'.join(rooms)}"


@WAYS
async def test_a_socket_lives_as_long_as_its_newest_token_and_no_longer(ws: str) -> None:
    first_s = 4.0
    async with serve(ws=ws) as server:
        began = time.time()
        async with server.websocket("/ws", subprotocols=["bearer", lasting(first_s)]) as ann:
            assert 0 < (await ask(ann, backplane="grant"))["expires_in_s"] <= first_s
            granted = await ask(ann, backplane="renew", token=lasting(86_400))
            assert granted["backplane"] == "granted"
            assert granted["expires_in_s"] > first_s
            # Nothing to wait on: what must not happen at that moment is the close.
            while time.time() < began + first_s + 0.5:
                assert await ask(ann, backplane="ping") == {"backplane": "pong"}
                await asyncio.sleep(0.1)
            assert await server.publish("user:ann", 1) == 1
            assert await receive(ann) == 1
            assert (await ask(ann, backplane="renew", token=lasting(0.2)))["expires_in_s"] <= 0.2
            assert (await closed(ann))[0] == 4401


@WAYS
async def test_what_the_new_token_does_not_allow_is_left_at_once_and_the_rest_is_heard(ws: str) -> None:
    async with serve(ws=ws) as server, server.websocket("/ws?user=ann") as ann:
        for room in ("1", "2", "3"):
            assert (await ask(ann, backplane="subscribe", target=f"room:{room}"))["backplane"] == "subscribed"
        assert (await ask(ann, backplane="unsubscribe", target="room:3"))["backplane"] == "unsubscribed"
        assert await ask(ann, backplane="renew", token=lasting(60, "bob", "2", "4")) == {
            "backplane": "refused",
            "target": "room:1",
            "reason": "no longer allowed",
        }
        assert (await receive(ann))["backplane"] == "granted"
        for target, user in (("user:ann", "ann"), ("room:1", "ann"), ("room:3", "ann")):
            assert await server.publish(target, target, user=user) == 0
        for target, user in (("user:bob", "bob"), ("room:2", "ann")):
            assert await server.publish(target, target, user=user) == 1
            assert await receive(ann) == target
        assert (await ask(ann, backplane="subscribe", target="room:1"))["reason"] == "not allowed"
        assert (await ask(ann, backplane="subscribe", target="room:4"))["backplane"] == "subscribed"


async def is_gone(server: Server) -> None:
    await server.metric_is('backplane_gateway_connections{transport="websocket"}', 0)


@WAYS
@pytest.mark.parametrize(
    ("query", "token", "code"),
    [("", "mallory", 4403), ("", "", 4401), ("&conn_id=a", "ann", None), ("", "x" * 9_000, 1009)],
    ids=["refused", "none", "same-id", "too-long"],
)
async def test_a_token_that_is_refused_ends_the_socket_as_if_it_came_with_it(
    ws: str, query: str, token: str, code: int | None
) -> None:
    async with serve(ws=ws) as server:
        async with server.websocket(f"/ws?{query}", additional_headers={"Authorization": "Bearer ann"}) as ann:
            await ann.send(json.dumps({"backplane": "renew", "token": token}))
            if code is None:
                assert (await receive(ann))["backplane"] == "granted"
            else:
                assert (await closed(ann))[0] == code
        await is_gone(server)
        assert "x" * 20 not in server.log


async def test_a_client_that_renews_too_often_is_closed() -> None:
    async with serve() as server, server.websocket("/ws?user=ann") as ann:
        for _ in range(60):  # within the budget of messages
            await ann.send(json.dumps({"backplane": "renew", "token": "ann"}))
        assert await closed(ann) == (1008, "too many renewals")


async def test_a_host_that_fails_at_a_renewal_ends_the_socket_and_it_is_counted() -> None:
    async def authenticate(request: Request) -> Grant:
        if request.is_renewal:
            raise RuntimeError("the host's own fault")
        return Grant(targets=[Target.user("ann")])

    messages = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": '{"backplane":"renew"}'}]

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        assert message == {"type": "websocket.accept", "subprotocol": None}

    async with InMemoryBackplane() as backplane:
        endpoint = websocket_endpoint(backplane, authenticate=authenticate)
        with pytest.raises(RuntimeError, match="own fault"):
            await endpoint({"type": "websocket", "headers": [], "query_string": b""}, receive, send)
        assert backplane.connection_count == 0
        assert not any(hub_of(backplane).open.values())
        assert hub_of(backplane).closed == {("websocket", 0): 1}


def test_a_request_shows_no_token_and_the_newest_one_is_its_bearer() -> None:
    request = Request({"type": "websocket", "headers": [(b"authorization", b"Bearer old-secret")]})
    renewed = request.renewed("new-secret")
    assert (request.bearer, request.is_renewal) == ("old-secret", False)
    assert (renewed.bearer, renewed.is_renewal) == ("new-secret", True)
    assert "secret" not in repr(renewed)
