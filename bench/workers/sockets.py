"""The two processes of sockets over the network: a server, and clients that do no more than count.

On a number the server publishes so many events at once, and on "report" says what processor time it took since; the
clients take a number as what each socket gets next, and say "all" when it has.
"""

from __future__ import annotations

import asyncio
import select
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from itertools import count
from typing import Any, Final, Literal, TypeAlias

import msgspec
import psutil  # type: ignore[import-untyped]
import uvicorn
from attrs import frozen
from backplane_asgi import Grant, Receive, Request, Scope, Send, sse_endpoint, websocket_endpoint
from backplane_asgi.uvicorn import PreparedHttpProtocol, PreparedProtocol
from backplane_core import InMemoryBackplane, Target
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from bench.events import nested
from bench.workers.worker import Worker, cpu_s, next_word, say

__all__ = ["WORKER", "Crowd", "Kind", "Way"]

Kind: TypeAlias = Literal["websocket", "sse"]
Way: TypeAlias = Literal["bare", "prepared", "plain", "starlette"]

_ORG: Final = Target.org("acme")
_MARK: Final = b'{"n":'  # each event has it once
_BEGIN: Final = b": \n\n"
_HEAD: Final = b"GET / HTTP/1.1\r\nHost: h\r\n"
_UPGRADE: Final = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
)


@frozen(kw_only=True)
class Crowd:
    """The sockets that get each event."""

    kind: Kind
    way: Way
    members: int  # how many
    port: int = 0  # where the server listens; the clients must know


class _Service(ABC):
    """An app, and how it publishes."""

    app: Any

    @abstractmethod
    async def publish(self, event: object) -> None:
        """Hand an event to every socket."""


class _Ours(_Service):
    def __init__(self, kind: Kind) -> None:
        self._backplane = InMemoryBackplane()
        endpoint = websocket_endpoint if kind == "websocket" else sse_endpoint
        self.app = endpoint(self._backplane, authenticate=self._grant)

    async def _grant(self, _: Request) -> Grant:
        return Grant(targets=[_ORG])

    async def publish(self, event: object) -> None:
        await self._backplane.publish(_ORG, event)


class _Bare(_Service):
    """What any server must do at least: one frame is made, and written to each transport."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._transports: list[Any] = []
        self.app = self._serve

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._kind == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            self._transports.append(scope["extensions"]["backplane.frames"].transport)
        else:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
            await send({"type": "http.response.body", "body": _BEGIN, "more_body": True})
            self._transports.append(scope["extensions"]["backplane.chunks"].transport)
        while (await receive())["type"] not in {"websocket.disconnect", "http.disconnect"}:
            pass

    async def publish(self, event: object) -> None:
        data = msgspec.json.encode(event)
        if self._kind == "websocket":
            frame = b"\x81\x7e%b%b" % (len(data).to_bytes(2, "big"), data)
        else:
            frame = b"%x\r\ndata: %b\n\n\r\n" % (len(data) + 8, data)
        for transport in self._transports:
            transport.write(frame)


class _Starlette(_Service):
    """As its documentation teaches: `send_text` to each, or a generator over a queue for each."""

    def __init__(self) -> None:
        self._sockets: list[WebSocket] = []
        self._queues: list[asyncio.Queue[bytes]] = []
        self.app = Starlette(routes=[WebSocketRoute("/", self._socket), Route("/", self._stream)])

    async def _socket(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self._sockets.append(websocket)
        try:
            while True:
                await websocket.receive_text()
        except WebSocketDisconnect:
            pass

    async def _stream(self, _: StarletteRequest) -> StreamingResponse:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._queues.append(queue)

        async def lines() -> AsyncGenerator[bytes]:
            yield _BEGIN
            while True:
                yield await queue.get()

        return StreamingResponse(lines(), media_type="text/event-stream")

    async def publish(self, event: object) -> None:
        text = msgspec.json.encode(event).decode()
        for websocket in self._sockets:
            await websocket.send_text(text)
        line = f"data: {text}\n\n".encode()
        for queue in self._queues:
            queue.put_nowait(line)


def _service(crowd: Crowd) -> _Service:
    if crowd.way == "bare":
        return _Bare(crowd.kind)
    return _Starlette() if crowd.way == "starlette" else _Ours(crowd.kind)


async def _serve(crowd: Crowd) -> None:
    service, prepared = _service(crowd), crowd.way in {"bare", "prepared"}
    config = uvicorn.Config(
        service.app,
        interface="asgi3",
        ws=PreparedProtocol if prepared else "websockets-sansio",
        http=PreparedHttpProtocol if prepared else "auto",
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        lifespan="off",
        log_level="critical",
        timeout_graceful_shutdown=1,
    )
    listener = socket.create_server(("127.0.0.1", 0), backlog=8_192)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    empty = _resident()
    say("ready", port=listener.getsockname()[1])
    numbers, used = count(), 0.0
    while (word := await next_word()) != "stop":
        if word == "report":
            say("report", cpu_s=cpu_s() - used, resident=_resident() - empty)
        else:
            used = cpu_s()
            for _ in range(int(word)):
                await service.publish(nested(next(numbers), "u1"))
    server.should_exit = server.force_exit = True
    await serving


def _resident() -> int:
    return int(psutil.Process().memory_full_info().pss)


async def _read(crowd: Crowd) -> None:
    sockets = {one.fileno(): one for one in [_connect(crowd) for _ in range(crowd.members)]}
    poll = select.epoll()
    for number in sockets:
        poll.register(number, select.EPOLLIN)
    say("ready")
    while (word := await next_word()) != "stop":
        await asyncio.to_thread(_take, poll, sockets, int(word) * crowd.members)
        say("all")


def _connect(crowd: Crowd) -> socket.socket:
    line = socket.create_connection(("127.0.0.1", crowd.port), timeout=60)
    line.sendall(_HEAD + (_UPGRADE if crowd.kind == "websocket" else b"") + b"\r\n")
    end, begun = (b"\r\n\r\n" if crowd.kind == "websocket" else _BEGIN), b""
    while end not in begun:
        begun += line.recv(4_096)
    assert begun.startswith((b"HTTP/1.1 101", b"HTTP/1.1 200")), begun
    line.setblocking(False)  # noqa: FBT003 -- the socket's own argument
    return line


def _take(poll: select.epoll, sockets: dict[int, socket.socket], events: int) -> None:
    """Return once so many events have come, over all sockets."""
    tails: dict[int, bytes] = {}
    while events:
        for number, _ in poll.poll(60):
            part = sockets[number].recv(65_536)
            if not part:
                raise SystemExit("the server has closed a socket")
            data = tails.get(number, b"") + part
            events -= data.count(_MARK)
            tails[number] = data[1 - len(_MARK) :]  # a mark may be in two parts


WORKER: Final = Worker(Crowd, {"serve": _serve, "read": _read})
