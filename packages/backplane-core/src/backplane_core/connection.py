"""One client socket's bounded queue of events: `async with backplane.connection(...)`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias, overload

from backplane_core.event import CaughtUp, Event
from backplane_core.observe import Gap

__all__ = ["Conflate", "Connection", "Overflow"]

Overflow: TypeAlias = Literal["close", "drop_oldest", "drop_newest", "latest"]
"""What a full queue does. `close`: ends the connection with `SlowConsumerError`, so that the client resyncs.
`drop_oldest`, `drop_newest`: drops events and reports a Gap in their place. `latest`: takes out events that a newer one
of the same target and `key` stands behind, without a Gap, and counts them in `stats().conflated`; the newer one stays
in its own place. Where there is none, it drops the oldest as `drop_oldest` does."""

Conflate: TypeAlias = Literal["full", "always"]
"""When `overflow="latest"` takes out what is outdated. `full`: once the queue is full. `always`: at once, so that of
each target and key one event waits at most."""

MAX_PENDING: Final = 1_000
"""Events a socket may be behind: a second of a very busy stream."""
MAX_PENDING_BYTES: Final = 4 * 1024 * 1024
"""The same in bytes: four events of the largest size. 1,000 stalled sockets are 4 GiB at worst: lower it for many."""


class Connection(ABC):
    """One socket's bounded queue of events; `backplane.connection(...)` makes it. Attached while it is entered.

    Iterate it for the events, or its `items()` for events and gaps. The iteration ends without an error when the
    backplane drains or closes, or when another `attach` takes the connection's id; events that were queued by then are
    yielded first.

    Delivery: in order. Nothing is dropped except as `overflow` says, and that is reported as a `Gap`.
    Cancellation: a cancelled iteration loses no event.
    """

    __slots__ = ("__weakref__",)

    @property
    @abstractmethod
    def conn_id(self) -> str:
        """The connection's id: the one given, or the one made up."""

    @property
    @abstractmethod
    def pending(self) -> int:
        """How many events wait to be read."""

    @property
    @abstractmethod
    def pending_bytes(self) -> int:
        """How many bytes of JSON wait to be read."""

    @abstractmethod
    async def __aenter__(self) -> Self:
        """Attach, and return once the broker has confirmed the subscriptions; at once while the link is down.

        Raises:
            ClosedError: The backplane is draining or closed, or this connection was entered before.
        """

    @abstractmethod
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Detach. Events that are still queued are discarded, since the socket is gone."""

    @overload
    def items(self) -> AsyncIterator[Event | Gap]: ...

    @overload
    def items(self, *, marks: bool) -> AsyncIterator[Event | Gap | CaughtUp]: ...

    @abstractmethod
    def items(self, *, marks: bool = False) -> AsyncIterator[Event | Gap] | AsyncIterator[Event | Gap | CaughtUp]:
        """Return an iterator of events and gaps, in stream order: a gap stands before the first event after the hole.

            async for item in connection.items():
                text = item.text if isinstance(item, Event) else '{"reload":true}'
                await websocket.send_text(text)

        With `resume_from` what was missed comes first.

        Args:
            marks: Whether one `CaughtUp` shows where that ends; without `resume_from` none comes. By default False.

        It ends, or raises, as the iteration of the connection does. The two take from one queue: use one of them.

        Delivery: gaps of the bus, and those that `overflow` left.
        Cancellation: a cancelled iteration loses no event and no gap.
        """

    @abstractmethod
    async def ended(self) -> None:
        """Return at the moment the connection ends: it overflowed, the backplane drains, or its id was taken over.

        Events that were queued by then can still be read. So a task that waits in a send to a socket that stopped
        reading can be cancelled at once.

        Raises:
            ClosedError: This connection has not been entered.
        """

    def __aiter__(self) -> Self:
        return self

    @abstractmethod
    async def __anext__(self) -> Event:
        """Return the next event.

        Raises:
            StopAsyncIteration: The connection ended.
            SlowConsumerError: It ended because the queue overflowed under the policy "close".
            GapError: It ended at a gap, as `end_on_gap` asked for.
        """
