"""A pytest plugin for python-socketio's own tests: what they test is our managers, in place of the base of its own."""

from __future__ import annotations

from typing import Any

from backplane_socketio import AsyncBackplaneManager, BackplaneManager
from socketio import async_pubsub_manager, pubsub_manager  # type: ignore[import-untyped]

URL = "redis://127.0.0.1:1"
"""Nobody is there: these tests look at what is published, not at what arrives."""


class AsyncManager(AsyncBackplaneManager):
    def __init__(self, channel: str = "socketio", **options: Any) -> None:
        super().__init__(URL, channel, **options)


class Manager(BackplaneManager):
    def __init__(self, channel: str = "socketio", **options: Any) -> None:
        super().__init__(URL, channel, **options)
        self._first_client_at = 0.0  # the clients of these tests don't wait until their server hears others


async_pubsub_manager.AsyncPubSubManager = AsyncManager
pubsub_manager.PubSubManager = Manager
