"""Frames moved by nats-py's public API alone, at half the speed and with any nats-py: `PublicIO`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import nats.errors
from backplane_core import Frame
from backplane_core.sockets import Inbox
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from backplane_nats._subjects import to_subject
from backplane_nats._written import Command, Denial, Written

__all__ = ["PublicIO"]

_FLUSH_TIMEOUT_S: Final = 86_400
"""Never, in effect: a PONG that comes after flush() gave up ends nats-py's read loop."""

_POLL_S: Final = 0.005
"""How often to look whether nats-py's flusher task has written; nothing announces it."""


class _Delivery(asyncio.Future[Msg]):
    """A future that is never done, so that nats-py's read loop hands it every message, inline and without a task."""

    __slots__ = ("_channel", "_put", "_reads_headers")

    def __init__(self, inbox: Inbox, channel: str, *, reads_headers: bool = False) -> None:
        super().__init__()
        self._put = inbox.put
        self._channel = channel
        self._reads_headers = reads_headers

    def cancelled(self) -> bool:
        return False

    def set_result(self, result: Msg, /) -> None:
        # Nothing here may raise: it would end nats-py's read loop, while is_connected stays True.
        self._put(self._channel, _with_headers(result) if self._reads_headers else result.data)


class _Answers(_Delivery):
    """Takes answers, each of which belongs to the question with the number that its subject ends with."""

    __slots__ = ()

    def set_result(self, result: Msg, /) -> None:
        if result.reply.startswith("$JS.ACK."):
            self._put(f".{result.subject} {result.reply}", _with_headers(result))
        else:
            self._put(result.subject[result.subject.rfind(".") :], _with_headers(result))


def _with_headers(message: Msg) -> bytes:
    """Return a message with its headers in front, as the server sent them."""
    headers: dict[str, str] = dict(message.headers or {})
    if not headers:
        return message.data
    status = headers.pop("Status", "")
    lines = [f"NATS/1.0 {status}".rstrip(), *[f"{name}: {value}" for name, value in headers.items()], "", ""]
    return "\r\n".join(lines).encode() + message.data


class PublicIO:
    """`subscribe(future=...)`, `publish` and `flush` of nats-py.

    The first two never suspend, since the client is opened with unbounded queues: where nats-py waits for room it
    swallows a cancellation.

    Args:
        client: Connected before anything is written.
        inbox: Takes the frames.
        reads_headers: Whether the headers of a message are put in front of its payload.
    """

    def __init__(self, client: Client, inbox: Inbox, *, reads_headers: bool = False) -> None:
        self._client: Any = client
        self._inbox = inbox
        self._reads_headers = reads_headers
        self._address = ""
        self._subscriptions: dict[str, Subscription] = {}
        self._unused: asyncio.Queue[Msg] = asyncio.Queue()
        # Oldest first.
        self._written: deque[Written] = deque()
        self._flushes: set[asyncio.Task[None]] = set()

    @property
    def channels(self) -> int:
        """How many channels are subscribed."""
        return len(self._subscriptions)

    async def subscribe(self, channels: Sequence[str]) -> Written:
        """Subscribe these channels; those that are subscribed already are left alone."""
        written = self._begin("subscribe", channels)
        for channel in channels:
            if channel not in self._subscriptions:
                delivery = _Delivery(self._inbox, channel, reads_headers=self._reads_headers)
                subscription = await self._client.subscribe(to_subject(channel), future=delivery)
                # The one private name here, which may be missing. Each queue takes more than 2 KiB, and with a future
                # nothing is ever put into it, so all subscriptions share an empty one.
                if isinstance(getattr(subscription, "_pending_queue", None), asyncio.Queue):
                    subscription._pending_queue = self._unused  # noqa: SLF001 -- checked in the line above
                self._subscriptions[channel] = subscription
        return await self._ping(written)

    async def unsubscribe(self, channels: Sequence[str]) -> Written:
        """Unsubscribe these channels; unknown ones are left alone."""
        written = self._begin("unsubscribe", channels)
        for channel in channels:
            if subscription := self._subscriptions.pop(channel, None):
                await subscription.unsubscribe()
        return await self._ping(written)

    async def send(self, frames: Sequence[Frame]) -> Written:
        """Publish these frames, in order.

        Raises:
            MaxPayloadError: One is too large; nothing was written.
        """
        limit = self._client.max_payload
        if any(len(frame[1]) > limit for frame in frames):
            raise nats.errors.MaxPayloadError
        written = self._begin("publish", frames)
        for frame in frames:
            await self._client.publish(to_subject(frame[0]), frame[1])
        return await self._ping(written)

    async def listen_for_answers(self, address: str) -> None:
        """Take what is sent to `{address}.{number}` for the answer to the question with that number."""
        self._address = address
        await self._client.subscribe(f"{address}.*", future=_Answers(self._inbox, address, reads_headers=True))

    async def ask(self, questions: Sequence[tuple[str, bytes]], first: int) -> None:
        """Publish questions, with an address for the answer to each, and no PING behind them."""
        for number, (subject, payload) in enumerate(questions, first):
            await self._client.publish(subject, payload, reply=f"{self._address}.{number}")

    def _begin(self, command: Command, items: Sequence[str | Frame]) -> Written:
        """Expect denials of commands that are about to be written."""
        written = Written(self._inbox.confirmation(), command, items)
        self._written.append(written)
        return written

    async def _ping(self, written: Written) -> Written:
        # flush() writes its PING to the socket at once, ahead of commands that wait for nats-py's flusher task, so the
        # PONG would confirm what the server has not seen. So wait until those are written.
        wait_s = 0.0
        while self._client.pending_data_size and self._client.is_connected:
            await asyncio.sleep(wait_s)
            wait_s = _POLL_S
        # In a task: a cancelled flush() leaves a cancelled future, whose PONG ends nats-py's read loop.
        flush = asyncio.create_task(self._client.flush(timeout=_FLUSH_TIMEOUT_S))
        self._flushes.add(flush)
        flush.add_done_callback(self._flushes.discard)
        flush.add_done_callback(lambda task: task.cancelled() or task.exception())
        # True even if it failed: the link looks at the connection before it believes a confirmation.
        flush.add_done_callback(lambda _: self._settle(written))
        return written

    def _settle(self, written: Written) -> None:
        if written in self._written:
            self._written.remove(written)
        written.set_result(True)

    def deny(self, denial: Denial, *, in_lower_case: bool) -> bool:
        """Take a denial; return whether it is about what was written last and is not confirmed yet."""
        written = self._written[0] if self._written else None
        denied = () if written is None else written.deny(denial, in_lower_case=in_lower_case)
        if written is not None and written.command == "subscribe":
            for channel in denied:
                self._subscriptions.pop(channel, None)  # the server has none, and nats-py's own is left without effect
        return bool(denied)

    async def aclose(self) -> None:
        """Give up the confirmations that are still due. Call it only once nats-py's read loop has ended."""
        for flush in (flushes := [*self._flushes]):
            flush.cancel()
        if flushes:
            await asyncio.wait(flushes)
