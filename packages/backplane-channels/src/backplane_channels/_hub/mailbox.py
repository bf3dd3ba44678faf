"""What waits for one consumer: `Mailbox`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager, suppress
from math import inf
from time import monotonic
from typing import Final, Protocol

from attrs import frozen
from backplane_core import (
    ClosedByFleetError,
    EnvelopeError,
    Event,
    EventAttachment,
    Gap,
    Target,
)
from channels.exceptions import StopConsumer  # type: ignore[import-untyped]  # it has no py.typed

from backplane_channels._hub.messages import Message, is_message, read

__all__ = ["Bounds", "Mailbox", "Notices"]

FULL: Final = "the consumer did not read in time: its channel was full"
EXPIRED: Final = "the consumer did not read in time: a message expired"


@frozen(kw_only=True)
class Bounds:
    """How much may wait in a mailbox, and for how long.

    Args:
        messages: Messages that may wait.
        size: Bytes of JSON that may wait.
        expiry_s: Seconds that one may wait.
    """

    messages: int
    size: int
    expiry_s: float


class Notices(Protocol):
    """Notified of what a mailbox did not take."""

    def dropped(self, mailbox: Mailbox, reason: str) -> None:
        """Take note that a consumer missed messages; called for the first one of a hole."""
        ...

    def rejected(self) -> None:
        """Take note of an event that is no message."""
        ...


class Mailbox:
    """A bounded queue of messages and gaps, in stream order, for the one who calls `receive`.

    A message that does not fit, or that waited too long, leaves a gap in its place. With `gap_type` the consumer gets
    that as a message; gaps that stand together are one, so there are never more of them than messages. An event stays
    the bytes that all mailboxes share until a consumer reads it.

    Args:
        conn_id: The channel's name, as plain text.
        bounds: How much may wait.
        gap_type: The type of messages that report a gap; None: the consumer gets none.
        notices: Is notified of what is dropped.
        loop: The consumer's.
    """

    __slots__ = (
        "_bounds",
        "_bytes",
        "_events",
        "_gap_type",
        "_is_ended",
        "_is_kept",
        "_items",
        "_loop",
        "_notices",
        "_waiters",
        "attachment",
        "conn_id",
        "hears_gaps",
        "target",
    )

    def __init__(
        self, conn_id: str, bounds: Bounds, gap_type: str | None, notices: Notices, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.conn_id = conn_id
        self.target = Target.connection(conn_id)
        self.hears_gaps = gap_type is not None
        self.attachment: EventAttachment | None = None
        self._bounds = bounds
        self._gap_type = gap_type
        self._notices = notices
        self._loop = loop
        # With the moment at which each came; a gap stands at minus infinity, so that what expires behind it joins it.
        self._items: deque[tuple[float, Event | Gap]] = deque()
        self._events = 0
        self._bytes = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._is_ended = False
        self._is_kept = False

    # As the sink of its connection

    def accept(self, event: Event) -> bool:
        """Queue a message if there is room."""
        if not is_message(event):
            self._notices.rejected()
            return False
        now, size = monotonic(), len(event.json)
        if not self._has_room(now, size):
            self._drop(FULL)
            return False
        self._items.append((now, event))
        self._events += 1
        self._bytes += size
        if self._waiters:
            self._wake()
        return True

    def mark(self, gap: Gap) -> None:
        """Queue a gap behind what came before it. One that is open says nothing yet: the one that ends it follows."""
        if self._gap_type is None or gap.is_open:
            return
        last = self._items[-1][1] if self._items else None
        if isinstance(last, Gap):
            self._items[-1] = (-inf, last.merge(gap))
        else:
            self._items.append((-inf, gap))
        if self._waiters:
            self._wake()

    def close(self, order: ClosedByFleetError) -> None:
        """End by an order, as by any other end: the consumer stops, and its server closes the socket."""

    def end(self) -> None:
        """Take nothing else, and let the reader stop once it has read what is there: it would be deaf."""
        if self._is_kept:
            return
        self._is_ended = True
        with suppress(RuntimeError):  # the loop is closed, and nobody waits
            while self._waiters:
                self._wake()

    # For the layer

    def has_room(self) -> bool:
        """Return whether another message fits, by number."""
        return self._has_room(monotonic(), 0)

    def clear(self) -> None:
        """Forget everything that waits."""
        self._items.clear()
        self._events = self._bytes = 0

    @contextmanager
    def kept(self) -> Generator[None]:
        """Go on, though another attachment ends this one's: it is the same mailbox that is attached again."""
        self._is_kept = True
        try:
            yield
        finally:
            self._is_kept = False

    async def receive(self) -> Message:
        """Return the next message, once there is one.

        Raises:
            StopConsumer: Nothing else will come: the layer was closed, or the fleet was ordered to close the channel.

        Cancellation: loses no message.
        """
        while True:
            while self._items:
                message = self._take()
                if message is not None:
                    return message
            if self._is_ended:
                raise StopConsumer
            await self._wait()

    async def _wait(self) -> None:
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter.cancelled():
                with suppress(ValueError):
                    self._waiters.remove(waiter)
            elif self._items:  # it was woken and cancelled at the same time: the next one takes its place
                self._wake()
            raise

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _take(self) -> Message | None:
        """Return the first message; None if there was none to read after all."""
        now = monotonic()
        if self._items[0][0] < now - self._bounds.expiry_s:
            self._expire(now)
        _, item = self._items.popleft() if self._items else (0.0, None)
        if isinstance(item, Gap):
            return self._report(item)
        if item is None:
            return None
        self._events -= 1
        self._bytes -= len(item.json)
        try:
            message = read(item)
        except EnvelopeError:
            message = None
        if message is None:
            self._notices.rejected()
        return message

    def _report(self, gap: Gap) -> Message:
        return {
            "type": self._gap_type,
            "cause": gap.cause,
            "reason": gap.reason,
            "since": gap.since,
            "until": gap.until,
            "missed": gap.missed,
        }

    def _has_room(self, now: float, size: int) -> bool:
        bounds = self._bounds
        if self._events < bounds.messages and self._bytes + size <= bounds.size:
            return True
        self._expire(now)
        return self._events < bounds.messages and self._bytes + size <= bounds.size

    def _expire(self, now: float) -> None:
        """Turn what waited too long into a gap, one with what stands before it."""
        oldest = now - self._bounds.expiry_s
        hole: Gap | None = None
        while self._items and self._items[0][0] < oldest:
            at, item = self._items.popleft()
            gap: Gap | None
            if isinstance(item, Event):
                self._events -= 1
                self._bytes -= len(item.json)
                gap = self._count(EXPIRED, now - at)
            else:
                gap = item
            hole = gap if hole is None or gap is None else hole.merge(gap)
        if hole is not None and self._gap_type is not None:
            self._items.appendleft((-inf, hole))

    def _drop(self, reason: str) -> None:
        gap = self._count(reason, 0.0)
        if gap is not None:
            self.mark(gap)

    def _count(self, reason: str, waited_s: float) -> Gap | None:
        self._notices.dropped(self, reason)
        return None if self.attachment is None else self.attachment.count_overflow(reason, waited_s=waited_s)
