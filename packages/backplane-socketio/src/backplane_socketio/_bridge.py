"""The way to servers that still have python-socketio's own Redis manager, while a fleet moves: the old JSON channel.

Everything that a server of ours sends goes to both. What comes from the old channel is taken if an old server sent it:
what one of ours sent has come over the backplane already. A server's id says which of the two it is.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from backplane_socketio._framework import AsyncRedisManager, RedisManager
from backplane_socketio._messages import is_ours
from backplane_socketio._survey import ANSWER, QUESTION
from backplane_socketio.json_module import JsonModule

__all__ = ["OLD_NOT_HANDLED", "AsyncBridge", "Bridge", "is_for_old", "is_from_old"]

OPTIONS: Final[Mapping[str, Any]] = {"health_check_interval": 15}
"""Of redis-py: a dead connection is noticed within so many seconds."""

OLD_NOT_HANDLED: Final = "a message of the old channel could not be handled"
"""A line for the log."""

LOOK_S: Final = 0.5
"""Seconds after which a listener looks whether it was closed."""
RETRY_S: Final = 0.2
"""Seconds until a lost connection is opened again; the old channel keeps nothing for who is away."""


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
    """The part of python-socketio's own manager that connects and publishes; it listens until it is closed."""

    closed = False

    def send(self, message: dict[str, Any]) -> None:
        """Publish a message; what fails is logged."""
        self._publish(message)

    def hear(self) -> Iterator[object]:
        """Yield what is published, and connect again whenever that is needed."""
        while not self.closed:
            try:
                self._redis_connect()
                self.pubsub.subscribe(self.channel)
                while not self.closed:
                    message = self.pubsub.get_message(timeout=LOOK_S)
                    if message is not None:
                        yield message["data"]
            except Exception as error:  # noqa: BLE001 -- of whichever client library there is
                self._get_logger().error("the old channel is lost: %s", type(error).__name__)
                time.sleep(RETRY_S)
        self.close()

    def close(self) -> None:
        """Close its connections; a listener ends soon."""
        self.closed = True
        if self.redis is not None:
            self.redis.close()


class AsyncOldManager(AsyncRedisManager):
    """The same for an event loop; it only listens."""

    async def hear(self) -> AsyncGenerator[object]:
        """Yield what is published, and connect again whenever that is needed."""
        while True:
            try:
                self._redis_connect()
                await self.pubsub.subscribe(self.channel)
                while True:
                    message = await self.pubsub.get_message(timeout=LOOK_S)
                    if message is not None:
                        yield message["data"]
            except Exception as error:  # noqa: BLE001 -- of whichever client library there is
                self._get_logger().error("the old channel is lost: %s", type(error).__name__)
                await asyncio.sleep(RETRY_S)
            finally:
                await self.close()

    async def close(self) -> None:
        """Close its connections."""
        if self.pubsub is not None:
            await self.pubsub.aclose()
        if self.redis is not None:
            await self.redis.aclose()


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

    def close(self) -> None:
        """Hear nothing from now on. What is published later opens a connection again."""
        self._in.closed = True
        self._out.close()
        self._out.connected = False


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

    def close(self) -> None:
        """Send what was published, and end the thread; what listens ends when its task is cancelled."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.submit(self._out.close)
            thread.shutdown(wait=False)

    def _one_thread(self) -> ThreadPoolExecutor:
        """Return the thread that publishes; a single one, so that all stays in order."""
        if self._thread is None or self._process != os.getpid():
            self._thread = ThreadPoolExecutor(1, "backplane-socketio-bridge")
            self._process = os.getpid()
        return self._thread
