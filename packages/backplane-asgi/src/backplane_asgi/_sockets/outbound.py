"""What waits to be written to one socket, bounded in items, bytes and age: `Outbound`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Literal, TypeAlias, TypedDict, Unpack

from attrs import frozen
from backplane_core import (
    CaughtUp,
    ClosedByFleetError,
    ConfigurationError,
    Conflate,
    Event,
    EventAttachment,
    Gap,
    Replay,
)

from backplane_asgi._sockets.encoding import ChunkEncoding, Encoding, gap_json
from backplane_asgi._sockets.endings import ENDED, GAP, SLOW, Ending
from backplane_asgi._sockets.flusher import Flusher
from backplane_asgi._sockets.port import Port

__all__ = [
    "CONTROL_BYTES",
    "Limits",
    "OnGap",
    "Outbound",
    "OutboundOptions",
    "SocketOverflow",
    "closes_on_gap",
]

OnGap: TypeAlias = Literal["close", "frame"]
"""What a client gets at a gap. `close`: its WebSocket closes with 1012, or its stream ends, so that it comes back and
reloads. `frame`: the gap, in its place among the events: a message
`{"backplane":"gap","cause":…,"missed":…,"open":…}`, or an `event: gap`."""

SocketOverflow: TypeAlias = Literal["close", "latest"]
"""What happens to a client that is too far behind. `close`: its socket is closed, so that it comes back and reloads.
`latest`: events are left out that a newer one of the same target and `key` waits behind; if there is none, it is closed
all the same."""

REPLAY_AT_ONCE: Final = 64
"""Missed events that are written before other sockets get their turn."""

CONTROL_BYTES: Final = 64
"""What a control message counts for, in a socket that is behind."""


def closes_on_gap(on_gap: OnGap) -> bool:
    """Return whether a gap ends a socket.

    Raises:
        ConfigurationError: It is neither of the two.
    """
    if on_gap not in ("close", "frame"):
        raise ConfigurationError(f"on_gap={on_gap!r} is not allowed: 'close' or 'frame'")
    return on_gap == "close"


@frozen(kw_only=True)
class Limits:
    """How far behind a socket may be.

    Args:
        max_pending: Items that may wait.
        max_pending_bytes: Bytes that may wait.
        max_age_s: Seconds that the first of them may wait.
        overflow: What happens where one of these is not enough.
        conflate: When `overflow="latest"` leaves out what is outdated.

    Raises:
        ConfigurationError: `overflow` or `conflate` is not allowed.
    """

    max_pending: int
    max_pending_bytes: int
    max_age_s: float
    overflow: SocketOverflow = "close"
    conflate: Conflate = "full"

    def __attrs_post_init__(self) -> None:
        if self.overflow not in ("close", "latest"):
            raise ConfigurationError(f"overflow={self.overflow!r} is not allowed: 'close' or 'latest'")
        if self.conflate not in ("full", "always"):
            raise ConfigurationError(f"conflate={self.conflate!r} is not allowed: 'full' or 'always'")
        if self.conflate == "always" and self.overflow != "latest":
            raise ConfigurationError("conflate='always' needs overflow='latest'")


class OutboundOptions(TypedDict):
    """The options of one socket's way out.

    Args:
        limits: How far behind it may be.
        closes_on_gap: Whether a gap ends it; else the gap is written.
    """

    limits: Limits
    closes_on_gap: bool


class Outbound:
    """One socket's way out: takes events and gaps from the backplane, and writes them when its turn comes.

    The invariant: what it accepted is written in order, or the socket is closed with a code that says that something
    may be missing.

    Args:
        conn_id: The connection's id.
        encoding: Shared by all sockets of the same form.
        flusher: Of this loop.
        options: See `OutboundOptions`.
    """

    __slots__ = (
        "__weakref__",
        "_closes_on_gap",
        "_encoding",
        "_flusher",
        "_is_queued",
        "_limits",
        "_max_bytes",
        "_max_items",
        "_missed",
        "_port",
        "_until_end",
        "attachment",
        "bytes",
        "conn_id",
        "ending",
        "hears_gaps",
        "items",
        "max_age_s",
        "sent_bytes",
    )

    def __init__(self, conn_id: str, encoding: Encoding, flusher: Flusher, **options: Unpack[OutboundOptions]) -> None:
        limits = options["limits"]
        self.conn_id = conn_id
        self.hears_gaps = True
        self.items: list[Any] = []
        self.bytes: int = 0
        self.sent_bytes = 0
        self.max_age_s = limits.max_age_s
        self.ending: Ending | None = None
        """Why it is being closed; None: it is open."""
        self.attachment: EventAttachment | None = None
        self._encoding = encoding
        self._flusher = flusher
        self._limits = limits
        self._max_items, self._max_bytes = limits.max_pending, limits.max_pending_bytes
        self._closes_on_gap = options["closes_on_gap"]
        self._is_queued = False
        self._port: Port | None = None
        self._until_end: asyncio.Timeout | None = None
        # What is written before anything else, of a client that came back.
        self._missed: Replay | None = None

    # What the backplane calls

    def replay(self, missed: Replay) -> None:
        """Write what a client missed that comes back, before anything else, as fast as its socket takes it."""
        self._missed = missed

    def accept(self, event: Event) -> bool:
        """Take an event, unless too much waits: then the socket is closed."""
        encoding = self._encoding
        if encoding.event is not event:
            encoding.encode(event)
        size = self.bytes + encoding.size
        items = self.items
        if size > self._max_bytes or len(items) >= self._max_items:
            self._overflowed("too much waits to be written to the socket")
            return False
        self.bytes = size
        items.append(encoding.item)
        if not self._is_queued:
            self._write_soon()
        return True

    def mark(self, gap: Gap) -> None:
        """Write a gap in its place, or close the socket; one that is open says nothing of what is missing."""
        if not self._closes_on_gap:
            self.put_control(gap_json(gap))
        elif not gap.is_open:
            self.finish(GAP)

    def close(self, order: ClosedByFleetError) -> None:
        """Close the socket as the fleet was ordered to."""
        self.finish(Ending(order.code, order.reason))

    def end(self) -> None:
        """Close the socket: the backplane drains, or another connection took the id."""
        self.finish(ENDED)

    # What the endpoint calls

    @asynccontextmanager
    async def opened(self, port: Port) -> AsyncGenerator[None]:
        """Write from now on; what is awaited in the block is cancelled once the socket is to be closed."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(None) as self._until_end:
                    self._port = port
                    if self.ending is not None:
                        self._expire()
                    if self._missed is None:
                        self.flush()
                    else:
                        self._write_soon()  # in its turn among all that come back
                    yield
        finally:
            self._until_end = None

    def use_chunks(self, chunks: ChunkEncoding) -> None:
        """Take the events of a stream as chunks from now on, before it is opened; what came so far becomes chunks."""
        self._encoding = chunks
        self.items = [chunks.body_item(item) for item in self.items]

    def control_item(self, data: bytes) -> Any:  # noqa: ANN401 -- as its encoding makes them
        """Return a control message in this socket's form."""
        return self._encoding.control_item(data)

    def put_control(self, data: bytes) -> None:
        """Write a control message in its place among the events."""
        self.put(self._encoding.control_item(data))

    def put(self, item: Any) -> None:  # noqa: ANN401 -- as its encoding makes them
        """Write an item in its place among the events."""
        if self.ending is not None:
            return
        if len(self.items) >= self._max_items:
            self._overflowed("too much waits to be written to the socket")
            return
        self.bytes += CONTROL_BYTES
        self.items.append(item)
        self.flush()

    def finish(self, ending: Ending) -> None:
        """Accept nothing else, and close the socket, for the first reason that there is."""
        if self.ending is None:
            self.ending = ending
            self._max_items = self._max_bytes = 0
            self._expire()

    def leave(self) -> None:
        """Record that the endpoint is through: nothing is written any longer."""
        self._until_end = None
        self._port = None
        self.ending = self.ending or ENDED
        self._max_items = self._max_bytes = 0
        self._flusher.caught_up(self)

    # What the flusher and the port call

    def flush(self) -> None:
        """Write all that waits, if the socket takes it."""
        self._is_queued = False
        items, port = self.items, self._port
        if port is None:
            return
        if self._missed is not None and not self._write_missed(self._missed, port):
            return
        if not items:
            return
        written = port.write_items(items)
        if written:
            self.sent_bytes += written
            self.items = []
            self.bytes = 0
        if port.is_blocked:
            self._flusher.behind(self)

    def _write_missed(self, missed: Replay, port: Port) -> bool:
        """Write some of what was missed; return whether that was all, so that what came since may follow."""
        page: list[Any] = []
        while not port.is_blocked and len(page) < REPLAY_AT_ONCE:
            item = missed.take()
            if item is None:
                self._missed = None
                break
            page.append(self._replayed_item(item))
        if page:
            self.sent_bytes += port.write_items(page)
        if self._missed is None:
            return True
        if port.is_blocked:
            self._flusher.behind(self)
        else:
            self._write_soon()
        return False

    def _replayed_item(self, item: Event | Gap | CaughtUp) -> Any:  # noqa: ANN401 -- as its encoding makes them
        encoding = self._encoding
        if isinstance(item, Event):
            return encoding.event_item(item)
        return encoding.control_item(gap_json(item)) if isinstance(item, Gap) else encoding.mark_item(item)

    def resume(self) -> None:
        """Write what came while the socket took nothing."""
        self._flusher.caught_up(self)
        self.flush()

    def too_old(self) -> None:
        """Close the socket, which has taken nothing for too long."""
        self._overflowed(f"the socket took nothing for {self.max_age_s:g} s")

    def _write_soon(self) -> None:
        if not self._is_queued:
            self._is_queued = True
            flusher = self._flusher
            flusher.dirty.append(self)
            if not flusher.is_running:
                flusher.start()

    def _overflowed(self, reason: str) -> None:
        if self.ending is not None:
            return
        self.finish(SLOW)
        if self.attachment is not None:
            self.attachment.end_overflowed(reason)

    def _expire(self) -> None:
        if self._until_end is not None:
            self._until_end.reschedule(asyncio.get_running_loop().time())
