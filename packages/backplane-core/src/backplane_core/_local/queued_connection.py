"""What `backplane.connection(...)` returns: a `Connection` over a queue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self, overload

from backplane_core._local.arguments import own_target
from backplane_core._local.connection_host import ConnectionHost
from backplane_core._local.connection_items import ConnectionItems
from backplane_core._local.event_queue import NOT_ENTERED, EventQueue
from backplane_core._local.presence import Presence
from backplane_core.connection import Connection
from backplane_core.errors import ClosedError
from backplane_core.event import CaughtUp, Event
from backplane_core.observe import Gap
from backplane_core.target import Target

__all__ = ["QueuedConnection"]


class QueuedConnection(Connection):
    """See `Connection`.

    Args:
        host: The backplane.
        queue: The queue between the bus and the reader.
        targets: The targets that the connection is associated with.
        info: What its host says of it.
        is_direct: Whether it gets the events of its own id too.
        presence: What is shown of it in its targets.
    """

    __slots__ = ("_host", "_info", "_is_direct", "_is_entered", "_presence", "_queue", "_targets")

    def __init__(
        self,
        host: ConnectionHost,
        queue: EventQueue,
        targets: Sequence[Target],
        info: bytes | None = None,
        *,
        is_direct: bool,
        presence: Presence | None = None,
    ) -> None:
        self._host = host
        self._queue = queue
        self._targets = tuple(targets)
        self._info = info
        self._is_direct = is_direct
        self._presence = presence
        self._is_entered = False

    @property
    def conn_id(self) -> str:
        """The id of the connection."""
        return self._queue.conn_id

    @property
    def pending(self) -> int:
        """How many events wait to be read."""
        return self._queue.events

    @property
    def pending_bytes(self) -> int:
        """Size of these events, in bytes of JSON."""
        return self._queue.bytes

    def __repr__(self) -> str:
        queue = self._queue
        state = "not entered yet" if not self._is_entered else "open" if queue.is_open else "ended"
        return f"<Connection {queue.conn_id!r} {state}, {queue.events} events of {queue.bytes} bytes wait>"

    async def __aenter__(self) -> Self:
        """Attach, and wait until the broker confirmed the subscriptions for the targets."""
        self._enter_once()
        queue = self._queue
        attachment = queue.attachment = self._host.attach_queue(
            queue, self._targets, self._info, is_direct=self._is_direct, presence=self._presence
        )
        try:
            await self._host.confirm(own_target(queue.conn_id, is_direct=self._is_direct) + self._targets)
        except BaseException:
            attachment.drop()
            raise
        return self

    def _enter_once(self) -> None:
        if self._is_entered:
            raise ClosedError("a connection can only be entered once: create another with backplane.connection(...)")
        self._is_entered = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Detach, and discard what is still queued."""
        if self._queue.attachment is not None:
            self._queue.attachment.drop()
        for gap in self._queue.clear():
            self._host.reporter.report_gap(gap)

    @overload
    def items(self) -> AsyncIterator[Event | Gap]: ...

    @overload
    def items(self, *, marks: bool) -> AsyncIterator[Event | Gap | CaughtUp]: ...

    def items(  # what resumes has marks
        self,
        *,
        marks: bool = False,  # noqa: ARG002
    ) -> AsyncIterator[Event | Gap] | AsyncIterator[Event | Gap | CaughtUp]:
        """Return an iterator of events and gaps, in stream order."""
        self._queue.hears_gaps = True
        return ConnectionItems(self._queue)

    async def ended(self) -> None:
        """Return once nothing else will come."""
        if not self._is_entered:
            raise ClosedError(NOT_ENTERED)
        await self._queue.ended()

    async def __anext__(self) -> Event:
        """Return the next event."""
        queue = self._queue
        items = queue.items
        while True:
            while items:
                item = items.popleft()
                if isinstance(item, Event):
                    queue.events -= 1
                    queue.bytes -= len(item.json)
                    return item
                queue.report(item)
            if not self._is_entered:
                raise ClosedError(NOT_ENTERED)
            if not queue.is_open:
                raise queue.error() or StopAsyncIteration
            await queue.waiter
