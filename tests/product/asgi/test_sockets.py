"""A WebSocket protocol of one's own, on any ASGI server: its events have its form, and its closes say why."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from backplane_asgi import Receive, Scope, Send
from backplane_asgi.sockets import ClientSocket, SocketForm, count_refused, find_backplane, socket_count
from backplane_core import Event, Target, connect
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

ROOM = Target("room", "1")


class Shouting(SocketForm):
    """Events in capital letters."""

    def event_json(self, event: Event) -> bytes:
        """Return the event as it is shouted."""
        return event.json.upper()


class Protocol:
    """Publishes what its clients say, and ends them as they ask for."""

    def __init__(self) -> None:
        self.form = Shouting()
        self.ended_by: list[tuple[str | None, int]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one client."""
        backplane = find_backplane("backplane", scope)
        await receive()
        await send({"type": "websocket.accept"})
        socket = ClientSocket(backplane, scope, "c1", self.form)
        try:
            await socket.attach(ROOM)
            async with socket.opened(send):
                while (message := await receive())["type"] != "websocket.disconnect":
                    match message["text"]:
                        case "count":
                            socket.write(b"%d" % socket_count(backplane))
                        case "finish":
                            socket.finish(4321, "as asked for")
                        case "close":
                            await backplane.fleet.close(ROOM, code=4322)
                        case "replace":
                            await backplane.attach("c1", lambda _: True)
                        case said:
                            await backplane.publish(ROOM, said)
                socket.has_gone = True
            self.ended_by.append((socket.ended_by, socket.order[0]))
            socket.detach()
            await socket.close(send, socket.order[0] or 4000, socket.order[1])
        finally:
            socket.end()
            count_refused(backplane, "a reason")
            assert socket_count(backplane) == 0


@pytest.mark.parametrize(
    ("said", "code", "ended_by"), [("finish", 4321, "order"), ("close", 4322, "order"), ("replace", 4000, "replaced")]
)
def test_events_have_the_form_of_the_protocol_and_closes_say_why(said: str, code: int, ended_by: str) -> None:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[dict[str, Any]]:
        async with connect("memory://") as backplane:
            yield {"backplane": backplane}

    protocol = Protocol()
    with (
        TestClient(Starlette(routes=[Mount("/ws", protocol)], lifespan=lifespan)) as client,
        client.websocket_connect("/ws/") as websocket,
    ):
        websocket.send_text("hello")
        assert websocket.receive_text() == '"HELLO"'
        websocket.send_text("count")
        assert websocket.receive_text() == "1"
        websocket.send_text(said)
        assert websocket.receive() == {
            "type": "websocket.close",
            "code": code,
            "reason": "as asked for" if said == "finish" else "",
        }
    assert [(it[0], it[1] or 4000) for it in protocol.ended_by] == [(ended_by, code)]
