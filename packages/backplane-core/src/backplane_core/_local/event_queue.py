"""The queue between the bus and one socket: events and the gaps between them, bounded in messages and bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Final, Protocol, TypeAlias, TypedDict, Unpack

from backplane_core._local.connection_host import ConnectionHost
from backplane_core._local.registry import SinkAttachment
from backplane_core._runtime.waking import Waiter
from backplane_core.connection import Conflate, Overflow
from backplane_core.errors import (
    BackplaneError,
    ClosedByFleetError,
    ClosedError,
    ConfigurationError,
    GapError,
    SlowConsumerError,
)
from backplane_core.event import Event
from backplane_core.observe import Gap, GapCallback, GapCause

__all__ = ["NOT_ENTERED", "EventQueue", "Hole", "QueueOptions", "add_gap", "check_queue_options"]

NOT_ENTERED: Final = "enter the connection first: async with backplane.connection(...) as connection"
OVERFLOWS: Final = ("close", "drop_oldest", "drop_newest", "latest")
CONFLATES: Final = ("full", "always")

Hole: TypeAlias = dict[GapCause, Gap]
"""One gap per cause, merged. It stands between events, where others are missing."""


class Items(Protocol):
    """What waits to be read, in its order; a deque is one."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Event | Hole]: ...
    def __getitem__(self, index: int, /) -> Event | Hole: ...
    def append(self, item: Event | Hole, /) -> None: ...
    def appendleft(self, item: Hole, /) -> None: ...
    def popleft(self) -> Event | Hole: ...
    def clear(self) -> None: ...


class QueueOptions(TypedDict):
    """The options of one connection's queue.

    Args:
        max_pending: Events that may wait to be read.
        max_pending_bytes: Bytes of JSON that may wait to be read.
        overflow: What a full queue does.
        conflate: When `overflow="latest"` takes out what is outdated.
        end_on_gap: Whether to end at the first gap of the bus.
        on_gap: Called with each gap when the reader comes to it.
    """

    max_pending: int
    max_pending_bytes: int
    overflow: Overflow
    conflate: Conflate
    end_on_gap: bool
    on_gap: GapCallback | None


def check_queue_options(options: QueueOptions) -> None:
    """Return if a queue may have these options.

    Raises:
        ConfigurationError: A bound or the policy is not allowed.
    """
    overflow = options["overflow"]
    if overflow not in OVERFLOWS:
        raise ConfigurationError(f"overflow={overflow!r} is not allowed: {', '.join(map(repr, OVERFLOWS))}")
    conflate = options["conflate"]
    if conflate not in CONFLATES:
        raise ConfigurationError(f"conflate={conflate!r} is not allowed: {', '.join(map(repr, CONFLATES))}")
    if conflate == "always" and overflow != "latest":
        raise ConfigurationError(f"conflate='always' needs overflow='latest': overflow={overflow!r} skips no event")
    if options["end_on_gap"] and overflow != "close":
        raise ConfigurationError(f"end_on_gap needs overflow='close': overflow={overflow!r} continues after a gap")
    for name, bound in (("max_pending", options["max_pending"]), ("max_pending_bytes", options["max_pending_bytes"])):
        if type(bound) is not int or bound < 1:
            raise ConfigurationError(f"{name}={bound!r} is not allowed: a whole number, at least 1")


def add_gap(hole: Hole, gap: Gap) -> None:
    """Add a gap to a hole that lies before it."""
    earlier = hole.get(gap.cause)
    hole[gap.cause] = gap if earlier is None else earlier.merge(gap)


class EventQueue:
    """Keeps what comes for one connection until it is read; see `Connection` for the promises.

    All connections share each event. Two holes are never adjacent: a gap joins the hole at its end of the queue.

    Args:
        host: Counts what is dropped.
        conn_id: The connection's id.
        options: See `QueueOptions`.

    Raises:
        ConfigurationError: A bound or the policy is not allowed.
    """

    # There may be very many queues, each touched by each event.
    __slots__ = (
        "_end_on_gap",
        "_ended",
        "_failure",
        "_host",
        "_max_pending",
        "_max_pending_bytes",
        "_on_gap",
        "_overflow",
        "attachment",
        "bytes",
        "conn_id",
        "events",
        "hears_gaps",
        "is_open",
        "items",
        "waiter",
    )

    def __init__(self, host: ConnectionHost, conn_id: str, **options: Unpack[QueueOptions]) -> None:
        check_queue_options(options)
        end_on_gap, on_gap = options["end_on_gap"], options["on_gap"]
        self.conn_id = conn_id
        self.hears_gaps = end_on_gap or on_gap is not None
        self.items: Items = deque()
        self.events: int = 0
        self.bytes: int = 0
        self.is_open = True
        """Whether more events may come."""
        self.waiter = Waiter(host.wake_queue)
        """What the reader awaits while there is nothing to read."""
        self.attachment: SinkAttachment | None = None
        self._host = host
        self._max_pending = options["max_pending"]
        self._max_pending_bytes = options["max_pending_bytes"]
        self._overflow: Overflow = options["overflow"]
        self._end_on_gap = end_on_gap
        self._on_gap = on_gap
        # Why it ended: at this gap, by an order, or since nobody read it in time.
        self._failure: Gap | ClosedByFleetError | str | None = None
        # Made for the first who waits for the end.
        self._ended: asyncio.Event | None = None

    def accept(self, event: Event) -> bool:
        """Queue an event if there is room, otherwise follow the policy; return whether it was queued."""
        size = self.bytes + len(event.json)
        if self.events < self._max_pending and size <= self._max_pending_bytes:
            self.items.append(event)
            self.events += 1
            self.bytes = size
            if self.waiter.waiting:
                self.waiter.wake()
            return True
        return self._overflowed(event)

    def mark(self, gap: Gap) -> None:
        """Put a gap of the bus after what came before it."""
        self._put(gap, at_front=False)
        # One that is open says nothing of what is missing: the client would come back to a pod that is still deaf.
        if self._end_on_gap and not gap.is_open:
            self._fail(gap)
        self.waiter.wake()

    def close(self, order: ClosedByFleetError) -> None:
        """End by an order, unless it has ended already; `end` follows."""
        if self.is_open:
            self._failure = order

    def end(self) -> None:
        """Accept nothing else, and let the reader end once it has read what is queued.

        The connection is detached or replaced, or the backplane drains: traffic that goes on must not keep it open.
        """
        self.is_open = False
        self._max_pending = 0
        self.waiter.wake()
        if self._ended is not None:
            self._ended.set()

    async def ended(self) -> None:
        """Wait until nothing else is accepted."""
        if self._ended is None:
            self._ended = asyncio.Event()
        if self.is_open:
            await self._ended.wait()

    def error(self) -> BackplaneError | None:
        """Return what the reader raises once everything is read, or None if it just ends."""
        if isinstance(self._failure, Gap):
            return GapError(self._failure)
        if isinstance(self._failure, ClosedByFleetError):
            return self._failure
        if self._failure is not None:
            return SlowConsumerError(f"{self._failure}: close the socket and let the client resync")
        return None

    async def take(self) -> Event | Hole:
        """Return what comes next, once it is there.

        Raises:
            StopAsyncIteration: The connection ended.
            BackplaneError: See `error`; or the connection has not been entered.
        """
        while not self.items:
            if not self.is_open:
                raise self.error() or StopAsyncIteration
            if self.attachment is None:
                raise ClosedError(NOT_ENTERED)
            await self.waiter
        item = self.items.popleft()
        if isinstance(item, Event):
            self.events -= 1
            self.bytes -= len(item.json)
        return item

    def report(self, hole: Hole) -> None:
        """Report what is missing here, except to the pod what the bus lost: that was reported when it happened."""
        reporter = self._host.reporter
        for gap in hole.values():
            if gap.cause == "overflow":
                reporter.report_gap(gap)
            if self._on_gap is not None:
                reporter.notify(self._on_gap, gap)

    def report_replayed(self, gap: Gap) -> None:
        """Report a gap of a replay, and end where that is asked for."""
        if gap.cause == "resume":
            self._host.reporter.report_gap(gap)
        if self._on_gap is not None:
            self._host.reporter.notify(self._on_gap, gap)
        if self._end_on_gap:
            self._fail(gap)

    def clear(self) -> list[Gap]:
        """Drop what nobody will read; return the gaps of this queue that were not reported yet."""
        gaps = [item["overflow"] for item in self.items if not isinstance(item, Event) and "overflow" in item]
        self.items.clear()
        self.events = self.bytes = 0
        return gaps

    def _overflowed(self, event: Event) -> bool:
        if not self.is_open:
            return False
        size = len(event.json)
        if self._overflow == "drop_oldest" and size <= self._max_pending_bytes:
            while self.events >= self._max_pending or self.bytes + size > self._max_pending_bytes:
                self._drop_oldest(self._oldest_passed_at())
            return EventQueue.accept(self, event)  # not again what a subclass does with each
        if self._overflow == "close":
            self.fail_overflowed(
                f"{self.events} events of {self.bytes} bytes waited to be read, "
                f"of at most {self._max_pending} and {self._max_pending_bytes}"
            )
        else:
            self._put(self._hole_of_one(self._host.bus.earliest()), at_front=False)
        self.waiter.wake()
        return False

    def _oldest_passed_at(self) -> float:
        """Return when the first event passed the bus, at the earliest, on the monotonic clock."""
        return self._host.bus.earliest()

    def _drop_oldest(self, passed_at: float) -> None:
        """Drop the first event; the holes before and after it become one."""
        before: list[Gap] = []
        while not isinstance(first := self.items.popleft(), Event):
            before += first.values()
        self.events -= 1
        self.bytes -= len(first.json)
        for gap in (*before, self._hole_of_one(passed_at)):
            self._put(gap, at_front=True)

    def _hole_of_one(self, passed_at: float) -> Gap:
        """Count one dropped event and return its gap."""
        return self._host.count_overflow(self.conn_id, f"the connection's queue was full ({self._overflow})", passed_at)

    def _put(self, gap: Gap, *, at_front: bool) -> None:
        """Add a gap to the hole at that end of the queue."""
        items = self.items
        neighbour = (items[0] if at_front else items[-1]) if items else None
        if isinstance(neighbour, dict):
            add_gap(neighbour, gap)
        elif at_front:
            items.appendleft({gap.cause: gap})
        else:
            items.append({gap.cause: gap})

    def fail_overflowed(self, reason: str) -> None:
        """Count what happened, and end with `SlowConsumerError`; it is reported when the fan-out is done."""
        self._host.end_overflowed(self.conn_id, f"{reason}, so the connection ended")
        self._fail(reason)

    def _fail(self, why: Gap | str) -> None:
        """Accept nothing else, and end with an error."""
        self._failure = why
        if self.attachment is not None:
            self.attachment.drop()
