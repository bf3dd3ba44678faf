"""One client socket's bounded queue of events: `async with backplane.connection(...)`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Literal, Protocol, Self, TypeAlias

from backplane_core._local.registry import QueueSink
from backplane_core._runtime.waking import Waiter, WakeQueue
from backplane_core.errors import BackplaneError, ClosedError, ConfigurationError, GapError, SlowConsumerError
from backplane_core.event import Event
from backplane_core.observe import Gap, GapCallback, GapCause
from backplane_core.target import Target

__all__ = ["Connection", "Overflow"]

Overflow: TypeAlias = Literal["close", "drop_oldest", "drop_newest"]
"""What a full queue does. `close`: ends the connection with `SlowConsumerError`, so that the client resyncs.
`drop_oldest`, `drop_newest`: drops events and tells a Gap in their place."""

OVERFLOWS: Final = ("close", "drop_oldest", "drop_newest")
MAX_PENDING: Final = 1_000
"""Events a socket may be behind: a second of a very busy stream."""
MAX_PENDING_BYTES: Final = 4 * 1024 * 1024
"""The same in bytes: four events of the largest size. 1,000 stalled sockets are 4 GiB at worst: lower it for many."""


_Hole: TypeAlias = dict[GapCause, Gap]


class Lease(Protocol):
    """An attachment, seen from its connection."""

    def drop(self) -> None:
        """Detach at once, unless it was replaced."""
        ...


class Host(Protocol):
    """What a connection needs of its backplane."""

    def lease(
        self,
        conn_id: str,
        targets: Sequence[Target],
        sink: QueueSink,
        on_gap: GapCallback | None,
        on_end: Callable[[], None],
    ) -> Lease:
        """Attach and associate at once."""
        ...

    async def confirm(self, targets: Sequence[Target]) -> bool:
        """Wait until the broker confirmed that all of these are heard; False at once while the link is down."""
        ...

    def overflowed(self, conn_id: str, reason: str) -> Gap:
        """Count an event that a queue dropped, and return its gap."""
        ...

    def tell_overflow(self, gap: Gap) -> None:
        """Tell the pod of what a queue dropped."""
        ...

    def call(self, callback: GapCallback, gap: Gap, /) -> None:
        """Call a host's callback and contain what it raises."""
        ...


class Connection:
    """One socket's bounded queue of events; `backplane.connection(...)` makes it. Attached while it is entered.

    Iterate it for the events. The iteration ends without an error when the backplane drains or closes, or when another
    `attach` takes the connection's id; events that were queued by then are yielded first.

    Delivery: in order. Nothing is dropped except as `overflow` says, and that is reported as a `Gap`.
    Cancellation: a cancelled iteration loses no event.
    """

    # There may be very many, each touched by each event.
    __slots__ = (
        "__weakref__",
        "_bytes",
        "_conn_id",
        "_end_on_gap",
        "_events",
        "_failure",
        "_host",
        "_lease",
        "_max_pending",
        "_max_pending_bytes",
        "_on_gap",
        "_overflow",
        "_queue",
        "_state",
        "_targets",
        "_waiter",
    )

    def __init__(  # noqa: PLR0917 -- one caller
        self,
        host: Host,
        waker: WakeQueue,
        conn_id: str,
        targets: Sequence[Target],
        max_pending: int,
        max_pending_bytes: int,
        overflow: Overflow,
        on_gap: GapCallback | None,
        end_on_gap: bool,  # noqa: FBT001 -- likewise
    ) -> None:
        if overflow not in OVERFLOWS:
            raise ConfigurationError(f"overflow={overflow!r} is not allowed: {', '.join(map(repr, OVERFLOWS))}")
        if end_on_gap and overflow != "close":
            raise ConfigurationError(
                f"end_on_gap goes with overflow='close': overflow={overflow!r} goes on after a gap"
            )
        for name, bound in (("max_pending", max_pending), ("max_pending_bytes", max_pending_bytes)):
            if type(bound) is not int or bound < 1:
                raise ConfigurationError(f"{name}={bound!r} is not allowed: a whole number, at least 1")
        self._host = host
        self._conn_id = conn_id
        self._targets = tuple(targets)
        self._max_pending = max_pending
        self._max_pending_bytes = max_pending_bytes
        self._overflow: Overflow = overflow
        self._on_gap = on_gap
        self._end_on_gap = end_on_gap
        # All connections share each event; a hole, one gap per cause, stands between them where it is.
        self._queue: deque[Event | _Hole] = deque()
        self._events = 0
        self._bytes = 0
        self._lease: Lease | None = None
        self._state: Literal["new", "open", "ended"] = "new"
        # What the iteration raises once all that was queued is read; None: it just ends.
        self._failure: Callable[[], BackplaneError] | None = None
        self._waiter = Waiter(waker)

    @property
    def conn_id(self) -> str:
        """The connection's id: the one given, or the one made up."""
        return self._conn_id

    @property
    def pending(self) -> int:
        """How many events wait to be read."""
        return self._events

    @property
    def pending_bytes(self) -> int:
        """How many bytes of JSON wait to be read."""
        return self._bytes

    async def __aenter__(self) -> Self:
        """Attach, and return once the broker has confirmed the subscriptions; at once while the link is down.

        Raises:
            ClosedError: The backplane is draining or closed, or this connection was entered before.
        """
        if self._state != "new":
            raise ClosedError("a connection is entered once: make another with backplane.connection(...)")
        on_gap = self._mark if self._on_gap is not None or self._end_on_gap else None
        self._lease = self._host.lease(self._conn_id, self._targets, self._accept, on_gap, self._end)
        self._state = "open"
        try:
            await self._host.confirm((Target.connection(self._conn_id), *self._targets))
        except BaseException:
            self._lease.drop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Detach. Events that are still queued are discarded, since the socket is gone."""
        if self._lease is not None:
            self._lease.drop()
        for item in self._queue:
            if not isinstance(item, Event) and "overflow" in item:
                self._host.tell_overflow(item["overflow"])
        self._queue.clear()
        self._events = self._bytes = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Return the next event.

        Raises:
            StopAsyncIteration: The connection ended.
            SlowConsumerError: It ended because the queue overflowed under the policy "close".
            GapError: It ended at a gap, as `end_on_gap` asked for.
        """
        queue = self._queue
        while True:
            while queue:
                item = queue.popleft()
                if isinstance(item, Event):
                    self._events -= 1
                    self._bytes -= len(item.json)
                    return item
                self._tell(item)
            if self._state != "open":
                raise self._no_more()
            await self._waiter

    def _no_more(self) -> Exception | type[StopAsyncIteration]:
        """What the iteration raises where nothing can come."""
        if self._state == "new":
            return ClosedError("enter the connection first: async with backplane.connection(...) as connection")
        return StopAsyncIteration if self._failure is None else self._failure()

    def _accept(self, event: Event) -> bool:
        """The sink: queue the event if there is room, else do as the policy says."""
        size = self._bytes + len(event.json)
        if self._events < self._max_pending and size <= self._max_pending_bytes:
            self._queue.append(event)
            self._events += 1
            self._bytes = size
            if self._waiter.waiting:
                self._waiter.wake()
            return True
        return self._overflowed(event)

    def _overflowed(self, event: Event) -> bool:
        """Do as the policy says; return whether the event was queued."""
        size = len(event.json)
        if self._overflow == "drop_oldest" and size <= self._max_pending_bytes:
            while self._events >= self._max_pending or self._bytes + size > self._max_pending_bytes:
                self._drop_oldest()
            return self._accept(event)
        if self._overflow == "close":
            self._fail(self._too_slow)
        else:
            self._put(self._hole_of_one(), at_front=False)
        self._waiter.wake()
        return False

    def _drop_oldest(self) -> None:
        """Drop the first event; the holes before and behind it become one."""
        first = self._queue.popleft()
        before = () if isinstance(first, Event) else first.values()
        dropped = first if isinstance(first, Event) else self._queue.popleft()
        assert isinstance(dropped, Event), "holes never stand side by side"
        self._events -= 1
        self._bytes -= len(dropped.json)
        for gap in (*before, self._hole_of_one()):
            self._put(gap, at_front=True)

    def _hole_of_one(self) -> Gap:
        """Count one dropped event and return its gap."""
        return self._host.overflowed(self._conn_id, f"the connection's queue was full ({self._overflow})")

    def _mark(self, gap: Gap) -> None:
        """Put a gap of the bus behind what came before it."""
        self._put(gap, at_front=False)
        if self._end_on_gap:
            self._fail(lambda: GapError(gap))
        self._waiter.wake()

    def _put(self, gap: Gap, *, at_front: bool) -> None:
        """Add a gap to the hole at that end of the queue."""
        queue = self._queue
        neighbour = (queue[0] if at_front else queue[-1]) if queue else None
        if isinstance(neighbour, dict):
            told = neighbour.get(gap.cause)
            neighbour[gap.cause] = gap if told is None else told.merge(gap)
        elif at_front:
            queue.appendleft({gap.cause: gap})
        else:
            queue.append({gap.cause: gap})

    def _tell(self, hole: _Hole) -> None:
        for gap in hole.values():
            if gap.cause == "overflow":
                self._host.tell_overflow(gap)
            if self._on_gap is not None:
                self._host.call(self._on_gap, gap)

    def _fail(self, failure: Callable[[], BackplaneError]) -> None:
        """Take nothing more, and end with this error."""
        self._failure = failure
        if self._lease is not None:
            self._lease.drop()

    def _too_slow(self) -> SlowConsumerError:
        return SlowConsumerError(
            f"the queue of this connection held {self._max_pending} events or {self._max_pending_bytes} bytes "
            "that nobody read: close the socket and let the client resync"
        )

    def _end(self) -> None:
        if self._state == "open":
            self._state = "ended"
        self._waiter.wake()
