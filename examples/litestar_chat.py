r"""A chat in Litestar, for any number of processes: `/rooms/{room}` is a WebSocket.

$ pip install "backplane-litestar[redis]" uvicorn websockets
$ export BACKPLANE_URL=redis://localhost:6379
$ uvicorn examples.litestar_chat:app
"""

# What Litestar's plugin takes may hold anything.
# pyright: reportUnknownMemberType=false

import os
from typing import Any

from backplane_litestar import BackplaneChannelsBackend
from litestar import Litestar, Response, WebSocket, get, websocket
from litestar.channels import ChannelsPlugin
from litestar.exceptions import WebSocketDisconnect

backend = BackplaneChannelsBackend(
    os.environ.get("BACKPLANE_URL", "redis://localhost:6379"),
    channel=os.environ.get("BACKPLANE_CHANNEL", "chat"),
    gap=b'{"type":"reload"}',  # messages may be missing here: the page loads the room again
)
channels = ChannelsPlugin(backend, arbitrary_channels_allowed=True)


@websocket("/rooms/{room:str}")
async def chat(socket: WebSocket[Any, Any, Any], room: str, channels: ChannelsPlugin) -> None:
    """Send everyone in the room what this client says, and this client what everyone says."""
    await socket.accept()
    async with (
        channels.start_subscription(room) as subscriber,
        subscriber.run_in_background(socket.send_text, join=False),  # what is queued is for nobody once it is closed
    ):
        while True:
            try:
                text = await socket.receive_text()
            except WebSocketDisconnect:
                return
            channels.publish({"type": "message", "text": text}, room)


@get("/health")
async def health() -> Response[Any]:
    """Say whether this process hears the others."""
    ready = backend.backplane.ready()
    return Response({"live": ready.live, "reason": ready.reason}, status_code=200 if ready else 503)


app = Litestar([chat, health], plugins=[channels])
