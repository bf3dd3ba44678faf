"""The chat of the examples as it was before it moved: `uvicorn tests.product.socketio.old_chat:app`."""

from __future__ import annotations

import os
from typing import Any

import socketio  # type: ignore[import-untyped]

from examples.socketio_chat import make_app

manager: Any = socketio.AsyncRedisManager(
    os.environ["CHAT_BRIDGE"], os.environ["BACKPLANE_CHANNEL"], redis_options={"socket_timeout": None}
)
app = make_app(manager, lambda: manager.pubsub is not None and bool(manager.pubsub.subscribed))
