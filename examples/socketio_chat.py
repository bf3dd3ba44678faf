r"""A chat with python-socketio, for any number of processes: clients `join` a room, and `say` something there.

$ pip install "backplane-socketio[redis]" uvicorn websockets
$ export BACKPLANE_URL=redis://localhost:6379
$ uvicorn examples.socketio_chat:app
"""

import json
import os
from collections.abc import Callable
from typing import Any

import socketio  # type: ignore[import-untyped]
from backplane_socketio import AsyncBackplaneManager


def make_app(manager: Any, is_live: Callable[[], bool], **hooks: Any) -> Any:  # noqa: ANN401 -- of python-socketio
    """Return the chat with the given client manager, and `/health`, which says whether it hears other servers."""
    server: Any = socketio.AsyncServer(async_mode="asgi", client_manager=manager)

    async def join(sid: str, room: str) -> None:
        await server.enter_room(sid, room)

    async def say(_: str, room: str, text: str) -> None:
        await server.emit("said", text, room=room)

    async def health(_: Any, __: Any, send: Any) -> None:  # noqa: ANN401
        status = 200 if is_live() else 503
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps({"live": is_live()}).encode()})

    server.on("join", join)
    server.on("say", say)
    return socketio.ASGIApp(server, other_asgi_app=health, **hooks)


chat = AsyncBackplaneManager(
    os.environ.get("BACKPLANE_URL", "redis://localhost:6379"),
    channel=os.environ.get("BACKPLANE_CHANNEL", "chat"),
    by_room=os.environ.get("CHAT_BY_ROOM") == "1",
    gap_event="reload",  # messages may be missing: the page loads the room again
    bridge=os.environ.get("CHAT_BRIDGE") or None,  # while servers with AsyncRedisManager are left
)
app = make_app(chat, lambda: chat.ready().live, on_startup=chat.open, on_shutdown=chat.aclose)
