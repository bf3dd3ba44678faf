"""The way to servers that still have python-socketio's own Redis manager, while a fleet moves: the old JSON channel.

Everything that a server of ours sends goes to both. What comes from the old channel is taken if an old server sent it:
what one of ours sent has come over the backplane already. A server's id says which of the two it is.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from backplane_socketio._framework import AsyncRedisManager, RedisManager
from backplane_socketio._messages import is_ours
from backplane_socketio._survey import ANSWER, QUESTION
from backplane_socketio.json_module import JsonModule

__all__ = ["AsyncBridge", "Bridge", "is_for_old", "is_from_old"]

OPTIONS: Final[Mapping[str, Any]] = {"socket_timeout": None}
"""Of redis-py, of which some versions would end an idle subscription after five seconds otherwise."""


def is_for_ours(message: Mapping[str, Any]) -> bool:
    """Return whether a message is for servers of ours alone."""
    method = message["method"]
    return method in {QUESTION, ANSWER} or (method == "callback" and is_ours(message.get("host_id")))


def is_for_old(message: Mapping[str, Any]) -> bool:
    """Return whether a message is for one old server alone, which waits for an answer."""
    return message["method"] == "callback" and not is_ours(message.get("host_id"))


def is_from_old(message: Mapping[str, Any], host_id: str) -> bool:
    """Return whether an old server sent a message of the old channel, and this one should take it.

    Args:
        message: Of the old channel.
        host_id: Of this server.
    """
    asked = message.get("host_id")
    return asked == host_id if message["method"] == "callback" else not is_ours(asked)


class OldManager(RedisManager):
    """What python-socketio's own manager fills, for use from outside."""

    def send(self, message: dict[str, Any]) -> None:
        """Publish a message; what fails is logged."""
        self._publish(message)

    def hear(self) -> Iterator[object]:
        """Yield what is published, and connect again whenever that is needed."""
        return self._listen()


class AsyncOldManager(AsyncRedisManager):
    """The same for event loops."""

    def hear(self) -> AsyncGenerator[object]:
        """Yield what is published, and connect again whenever that is needed."""
        return self._listen()


class Bridge:
    """The old channel, for threads and greenlets.

    Args:
        url: Of its Redis, as python-socketio's own manager takes it.
        channel: Its name.
    """

    def __init__(self, url: str, channel: str) -> None:
        self._out = OldManager(url, channel=channel, write_only=True, redis_options=dict(OPTIONS))
        self._in = OldManager(url, channel=channel, redis_options=dict(OPTIONS))

    def publish(self, message: dict[str, Any], json: JsonModule) -> None:
        """Send a message to the old servers, unless it is not for them. It never raises: what fails is logged."""
        if not is_for_ours(message):
            self._out.json = json
            self._out.send(message)

    def listen(self) -> Iterator[object]:
        """Yield what is sent there, and connect again whenever that is needed."""
        return self._in.hear()

    @property
    def hears(self) -> bool:
        """Whether it is subscribed."""
        return self._in.pubsub is not None and bool(self._in.pubsub.subscribed)


class AsyncBridge:
    """The old channel, for event loops: it publishes from any, and is heard in one.

    Args:
        url: Of its Redis, as python-socketio's own manager takes it.
        channel: Its name.
    """

    def __init__(self, url: str, channel: str) -> None:
        # A client of redis-py belongs to one loop, and sends twice when another one comes: so this is one for threads.
        self._out = Bridge(url, channel)
        self._in = AsyncOldManager(url, channel=channel, redis_options=dict(OPTIONS))
        self._thread: ThreadPoolExecutor | None = None
        self._process = 0

    async def publish(self, message: dict[str, Any], json: JsonModule) -> None:
        """Send a message to the old servers, unless it is not for them. It never raises: what fails is logged."""
        if not is_for_ours(message):
            await asyncio.get_running_loop().run_in_executor(self._one_thread(), self._out.publish, message, json)

    def listen(self) -> AsyncGenerator[object]:
        """Yield what is sent there, and connect again whenever that is needed."""
        return self._in.hear()

    @property
    def hears(self) -> bool:
        """Whether it is subscribed."""
        return self._in.pubsub is not None and bool(self._in.pubsub.subscribed)

    def _one_thread(self) -> ThreadPoolExecutor:
        """Return the thread that publishes; a single one, so that all stays in order."""
        if self._thread is None or self._process != os.getpid():
            self._thread = ThreadPoolExecutor(1, "backplane-socketio-bridge")
            self._process = os.getpid()
        return self._thread
