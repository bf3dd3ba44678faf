"""Frames over nats-py's public API alone: `PublicWire`. Works with any nats-py, at half the speed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Protocol

from backplane_core import Frame
from backplane_core.sockets import Confirmation, Inbox
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from backplane_nats._settings import subject_of

__all__ = ["PublicWire", "Wire"]

_FLUSH_TIMEOUT_S: Final = 86_400
"""Never, in effect: a PONG that comes after flush() gave up ends nats-py's read loop."""

_POLL_S: Final = 0.005


class Wire(Protocol):
    """Writes commands and a PING behind them; the PONG says that the broker worked on them all."""

    async def subscribe(self, channels: Sequence[str]) -> Confirmation:
        """Ask for these channels; those asked for already are left alone."""
        ...

    async def unsubscribe(self, channels: Sequence[str]) -> Confirmation:
        """Give up these channels; unknown ones are left alone."""
        ...

    async def send(self, frames: Sequence[Frame]) -> Confirmation:
        """Publish these frames in order."""
        ...

    async def aclose(self) -> None:
        """Leave nothing behind. Only once nats-py's read loop is over."""
        ...


class _Delivery(asyncio.Future[Msg]):
    """A future that is never done: nats-py's read loop hands it each message inline, without a task."""

    __slots__ = ("_channel", "_put")

    def __init__(self, inbox: Inbox, channel: str) -> None:
        super().__init__()
        self._put = inbox.put
        self._channel = channel

    def cancelled(self) -> bool:
        return False

    def set_result(self, result: Msg, /) -> None:
        # Nothing here may raise: it would end nats-py's read loop, while is_connected stays True.
        self._put(self._channel, result.data)


class PublicWire:
    """`subscribe(future=...)`, `publish` and `flush` of nats-py.

    The first two never suspend, since the client is opened with unbounded queues: where nats-py waits for
    room it swallows a cancellation.
    """

    def __init__(self, client: Client, inbox: Inbox) -> None:
        self._client: Any = client
        self._inbox = inbox
        self._subscriptions: dict[str, Subscription] = {}
        self._unused: asyncio.Queue[Msg] = asyncio.Queue()
        self._flushes: set[asyncio.Task[None]] = set()

    async def subscribe(self, channels: Sequence[str]) -> Confirmation:
        """Ask for these channels; those asked for already are left alone."""
        for channel in channels:
            if channel not in self._subscriptions:
                delivery = _Delivery(self._inbox, channel)
                subscription = await self._client.subscribe(subject_of(channel), future=delivery)
                # More than 2 KiB each, and with a future nothing is ever put into it: all share an empty one.
                if isinstance(getattr(subscription, "_pending_queue", None), asyncio.Queue):
                    subscription._pending_queue = self._unused  # noqa: SLF001 -- checked in the line above
                self._subscriptions[channel] = subscription
        return await self._ping()

    async def unsubscribe(self, channels: Sequence[str]) -> Confirmation:
        """Give up these channels; unknown ones are left alone."""
        for channel in channels:
            if subscription := self._subscriptions.pop(channel, None):
                await subscription.unsubscribe()
        return await self._ping()

    async def send(self, frames: Sequence[Frame]) -> Confirmation:
        """Publish these frames in order."""
        for frame in frames:
            await self._client.publish(subject_of(frame[0]), frame[1])
        return await self._ping()

    async def _ping(self) -> Confirmation:
        # flush() puts its PING on the socket at once, ahead of commands that wait for nats-py's flusher task:
        # the PONG would confirm what the broker has not seen. So wait until they are written.
        wait_s = 0.0
        while self._client.pending_data_size and self._client.is_connected:
            await asyncio.sleep(wait_s)
            wait_s = _POLL_S
        answer = self._inbox.answer()
        # In a task: a cancelled flush() leaves a cancelled future, whose PONG ends nats-py's read loop.
        flush = asyncio.create_task(self._client.flush(timeout=_FLUSH_TIMEOUT_S))
        self._flushes.add(flush)
        flush.add_done_callback(self._flushes.discard)
        flush.add_done_callback(lambda task: task.cancelled() or task.exception())
        flush.add_done_callback(lambda _: answer.give(True))  # noqa: FBT003 -- whether it lives on is asked then
        return answer

    async def aclose(self) -> None:
        """Give up the answers that are still awaited. Only once nats-py's read loop is over."""
        for flush in (flushes := [*self._flushes]):
            flush.cancel()
        if flushes:
            await asyncio.wait(flushes)
