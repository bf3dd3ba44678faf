"""Where a socket's items go: `Port`, and `SendPort` for any ASGI server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator, Iterator, Sequence
from types import coroutine
from typing import Any, Protocol

from backplane_asgi._types import Message, Send

__all__ = ["Port", "SendPort", "StreamPort"]


class Port(Protocol):
    """Takes items in order, without blocking.

    Args:
        is_blocked: Whether it takes nothing now; it calls `resume` of its outbound once it does.
    """

    is_blocked: bool

    def write_items(self, items: Sequence[Any]) -> int:
        """Write all of these; return how many bytes of text that were, or 0 if it took nothing."""
        ...


class Resumable(Protocol):
    """What a port calls once it takes items again."""

    def resume(self) -> None:
        """Write what waits."""
        ...


class SendPort:
    """Writes by ASGI's `send`, without a task per socket while the server takes everything at once.

    A call of `send` is driven up to its first wait, which on uvicorn it has only when the client is behind. A task then
    goes on with it, and nothing else is written until it is through. A server whose `send` must run in a task, and says
    so by a RuntimeError, gets one for each write.

    Args:
        send: Of the ASGI connection.
        outbound: Woken when a write that had to wait is done.
    """

    def __init__(self, send: Send, outbound: Resumable) -> None:
        self._send = send
        self._outbound = outbound
        self._writing: asyncio.Task[None] | None = None
        self._needs_task = False
        self.is_blocked = False
        self.is_dead = False
        """Whether the client has gone: whatever is written is dropped."""

    def write_items(self, items: Sequence[Any]) -> int:
        """Write all of these; return their bytes, or 0 if an earlier write still waits."""
        if self.is_blocked:
            return 0
        messages = self.messages(items)
        for number, message in enumerate(messages):
            rest = self._begin(message)
            if rest is not None:
                self.is_blocked = True
                self._writing = asyncio.get_running_loop().create_task(self._finish(rest, messages[number + 1 :]))
                break
        return sum(map(self.size_of, messages))

    def messages(self, items: Sequence[Any]) -> Sequence[Message]:
        """Return the ASGI messages for these items."""
        return items

    def size_of(self, message: Message) -> int:
        """Return the bytes of one message."""
        return len(message["text"])

    async def wait_idle(self) -> None:
        """Return once nothing is being written."""
        if self._writing is not None:
            await asyncio.wait([self._writing])

    async def stop(self) -> None:
        """Give up what is being written, and leave no task behind."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])

    def _begin(self, message: Message) -> Awaitable[None] | None:
        """Send a message; return what is left to be awaited, None: nothing."""
        if self.is_dead:
            return None
        if self._needs_task:
            return self._send(message)
        steps = self._send(message).__await__()
        try:
            waits_for = next(steps)
        except StopIteration:
            return None
        except RuntimeError:
            self._needs_task = True
            return self._send(message)
        except Exception:  # noqa: BLE001 -- the client has gone, as `receive` is about to say; servers differ in how
            self.is_dead = True
            return None
        return _go_on(steps, waits_for)

    async def _finish(self, rest: Awaitable[None], messages: Sequence[Message]) -> None:
        try:
            await rest
            for message in messages:
                await self._send(message)
        except Exception:  # noqa: BLE001 -- as above
            self.is_dead = True
        self._writing = None
        self.is_blocked = False
        self._outbound.resume()


class StreamPort(SendPort):
    """Writes the body of an HTTP answer: what waits goes into one message."""

    def messages(self, items: Sequence[Any]) -> Sequence[Message]:
        """Return one message with all of these."""
        body = items[0] if len(items) == 1 else b"".join(items)
        return [{"type": "http.response.body", "body": body, "more_body": True}]

    def size_of(self, message: Message) -> int:
        """Return the bytes of one message."""
        return len(message["body"])


@coroutine
def _go_on(steps: Iterator[Any], waits_for: object) -> Generator[Any, Any, None]:
    """Await the rest of an awaitable that has run up to its first wait, within the task that awaits this.

    As `yield from` would from its beginning on. A coroutine's steps take what is sent and thrown; those of an awaitable
    that is written in another language, as granian's is, may be a plain iterator.
    """
    send: Any = getattr(steps, "send", None)
    throw: Any = getattr(steps, "throw", None)
    while True:
        try:
            answer = yield waits_for
        except BaseException as error:  # a cancellation, which belongs to the coroutine
            if throw is None:
                raise
            try:
                waits_for = throw(error)
            except StopIteration:
                return
        else:
            try:
                waits_for = next(steps) if send is None else send(answer)
            except StopIteration:
                return
