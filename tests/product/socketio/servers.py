"""Real Socket.IO servers in this process, each on a port of its own, and real clients."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import socketio  # type: ignore[import-untyped]
import uvicorn
from attrs import define, field
from backplane_socketio import AsyncBackplaneManager

from tests.support.waiting import DEADLINE_S, until

__all__ = ["Chatter", "Site", "chat", "sites", "talking"]


@define(eq=False)
class Site:
    """One server."""

    server: Any
    manager: Any
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@define(eq=False)
class Chatter:
    """One client, and what it got."""

    client: Any
    got: list[tuple[Any, ...]] = field(factory=list[tuple[Any, ...]])

    @property
    def sid(self) -> str:
        return str(self.client.get_sid())

    async def has(self, *events: tuple[Any, ...]) -> None:
        """Return once the client got these events and no others; keep none of them."""
        await until(lambda: len(self.got) >= len(events), f"{events}, but {self.got}")
        assert self.got == list(events)
        self.got.clear()


def chat(manager: Any, **options: Any) -> Any:
    """Return a server on which clients say what they want done."""
    server: Any = socketio.AsyncServer(async_mode="asgi", client_manager=manager, **options)

    @server.event  # type: ignore[untyped-decorator]
    async def connect(sid: str, environ: dict[str, Any], auth: Any) -> None:
        if auth and auth["room"]:
            await server.enter_room(sid, auth["room"])

    @server.event  # type: ignore[untyped-decorator]
    async def say(sid: str, room: Any, text: Any) -> None:
        await server.emit("said", text, room=room)

    return server


@asynccontextmanager
async def serving(server: Any, manager: Any) -> AsyncGenerator[Site]:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        socketio.ASGIApp(server), lifespan="off", log_level="error", timeout_graceful_shutdown=1, ws="websockets-sansio"
    )
    web = uvicorn.Server(config)
    web.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    running = asyncio.ensure_future(web.serve(sockets=[listening]))
    try:
        await until(lambda: web.started, "a server that listens")
        yield Site(server, manager, listening.getsockname()[1])
    finally:
        web.should_exit = True
        await running
        await server.shutdown()
        if isinstance(manager, AsyncBackplaneManager):
            await manager.aclose()
        for name in ("thread", "_bridge_thread"):
            task = getattr(manager, name, None)
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        for client in (getattr(manager, "pubsub", None), getattr(manager, "redis", None)):
            if client is not None:
                await client.aclose()
        listening.close()


@asynccontextmanager
async def sites(*managers: Any, **options: Any) -> AsyncGenerator[Sequence[Site]]:
    """One server for each manager, all of which hear each other."""
    async with AsyncExitStack() as stack:
        found: list[Site] = []
        for manager in managers:
            server = chat(manager, **options)
            if isinstance(manager, AsyncBackplaneManager):
                await manager.open(timeout_s=DEADLINE_S)
            found.append(await stack.enter_async_context(serving(server, manager)))
        yield found


@asynccontextmanager
async def talking(site: Site, *events: str, namespace: str = "/", room: Any = None) -> AsyncGenerator[Chatter]:
    """A client of a server, over a WebSocket."""
    client: Any = socketio.AsyncClient(reconnection=False)
    chatter = Chatter(client)

    def keep(event: str) -> Any:
        async def kept(*data: Any) -> str:
            chatter.got.append((event, *data))
            return f"{event} taken"

        return kept

    for event in events or ("said",):
        client.on(event, keep(event), namespace=namespace)
    await client.connect(
        site.url, auth={"room": room}, namespaces=[namespace], transports=["websocket"], wait_timeout=int(DEADLINE_S)
    )
    try:
        yield chatter
    finally:
        await client.disconnect()
