"""What `backplane.connection(..., resume_from=...)` returns: a connection that begins with what was missed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Self, overload

from backplane_core._local.arguments import own_target
from backplane_core._local.connection_host import ConnectionHost
from backplane_core._local.connection_items import ConnectionItems
from backplane_core._local.event_queue import EventQueue
from backplane_core._local.presence import Presence
from backplane_core._local.queued_connection import QueuedConnection
from backplane_core._log.attaching import attach_resumed
from backplane_core._log.backlog import Backlog
from backplane_core._log.resumer import NoLog
from backplane_core.event import CaughtUp, Event
from backplane_core.observe import Gap
from backplane_core.target import Target

__all__ = ["ResumedConnection"]


class ResumedConnection(QueuedConnection):
    """See `Connection`. What is replayed does not count as pending: it was published before the connection came.

    Args:
        host: The backplane.
        queue: The queue between the bus and the reader.
        targets: The targets that the connection is associated with.
        info: What its host says of it.
        is_direct: Whether it gets the events of its own id too.
        presence: What others are shown of it.
        resumer: Finds what was missed.
        resume_from: The id of the last event that the client got.
    """

    __slots__ = ("_backlog", "_resume_from", "_resumer")

    def __init__(
        self,
        host: ConnectionHost,
        queue: EventQueue,
        targets: Sequence[Target],
        info: bytes | None,
        *,
        is_direct: bool,
        presence: Presence | None = None,
        resumer: NoLog,
        resume_from: str,
    ) -> None:
        super().__init__(host, queue, targets, info, is_direct=is_direct, presence=presence)
        self._resumer = resumer
        self._resume_from = resume_from
        self._backlog: Backlog | None = None

    async def __aenter__(self) -> Self:
        """Attach, with what was missed, and wait until the broker confirmed the subscriptions for the targets."""
        self._enter_once()
        queue = self._queue
        all_targets = own_target(queue.conn_id, is_direct=self._is_direct) + self._targets
        try:
            queue.attachment, self._backlog = await attach_resumed(
                self._host,
                queue,
                self._targets,
                self._info,
                self._resumer,
                self._resume_from,
                is_direct=self._is_direct,
                presence=self._presence,
            )
            await self._host.confirm(all_targets)
        except BaseException:
            if queue.attachment is not None:
                queue.attachment.drop()
            raise
        return self

    @overload
    def items(self) -> AsyncIterator[Event | Gap]: ...

    @overload
    def items(self, *, marks: bool) -> AsyncIterator[Event | Gap | CaughtUp]: ...

    def items(self, *, marks: bool = False) -> AsyncIterator[Event | Gap] | AsyncIterator[Event | Gap | CaughtUp]:
        """Return an iterator of what was missed, the mark of its end, and then events and gaps as they come."""
        self._queue.hears_gaps = True
        live = ConnectionItems(self._queue)
        return ResumedItems(self, live) if marks else ResumedItems(self, live).without_marks()

    async def __anext__(self) -> Event:
        """Return the next event."""
        while self.is_replaying:
            item = await self.take_replayed()
            if isinstance(item, Event):
                return item
        return await super().__anext__()

    @property
    def is_replaying(self) -> bool:
        """Whether something of what was missed may be left."""
        return self._backlog is not None

    async def take_replayed(self) -> Event | Gap | CaughtUp | None:
        """Return what was missed and comes next; None: nothing is left. Others have their turn between two pages."""
        backlog = self._backlog
        if backlog is None:
            return None
        if backlog.ends_page:
            await self._resumer.wait_turn()
        item = backlog.take()
        if item is None:
            self._backlog = None
        elif isinstance(item, Gap):
            self._queue.report_replayed(item)
        elif isinstance(item, Event):
            self._host.reporter.counters.replayed += 1
        return item


class ResumedItems(AsyncIterator[Event | Gap | CaughtUp]):
    """Takes what was missed, then what comes. A cancelled iteration loses none of it.

    Args:
        connection: Has what was missed.
        live: What comes.
    """

    __slots__ = ("_connection", "_live")

    def __init__(self, connection: ResumedConnection, live: AsyncIterator[Event | Gap]) -> None:
        self._connection = connection
        self._live = live

    async def __anext__(self) -> Event | Gap | CaughtUp:
        """Return the next item."""
        item = await self._connection.take_replayed() if self._connection.is_replaying else None
        return await anext(self._live) if item is None else item

    def without_marks(self) -> AsyncIterator[Event | Gap]:
        """Return the same without the mark."""
        return UnmarkedItems(self)


class UnmarkedItems(AsyncIterator[Event | Gap]):
    """Takes events and gaps alone.

    Args:
        items: Takes marks, too.
    """

    __slots__ = ("_items",)

    def __init__(self, items: ResumedItems) -> None:
        self._items = items

    async def __anext__(self) -> Event | Gap:
        """Return the next event, or gap."""
        item = await anext(self._items)
        return await anext(self) if isinstance(item, CaughtUp) else item
