"""A socket's way out on which newer events outdate older ones of their target and key: `LatestOutbound`."""

from __future__ import annotations

from typing import Any, TypeAlias, Unpack

from attrs import frozen
from backplane_core import Event

from backplane_asgi._sockets.encoding import ChunkEncoding, Encoding
from backplane_asgi._sockets.flusher import Flusher
from backplane_asgi._sockets.outbound import CONTROL_BYTES, Limits, Outbound, OutboundOptions

__all__ = ["LatestOutbound", "make_outbound"]

Place: TypeAlias = tuple[bytes, str]
"""A target, in its wire form, and a key."""


@frozen
class Waiting:
    """What waits to be written.

    Args:
        item: It, in the socket's form.
        size: What it counts for.
        place: Which newer events outdate it; None: none.
    """

    item: Any
    size: int
    place: Place | None = None


class LatestOutbound(Outbound):
    """Makes room by leaving out outdated events: those that a newer one of the same target and key stands behind.

    They are counted as conflated, and are no gap. Where none is outdated, the socket is closed as one that is too slow.

    Args:
        conn_id: The connection's id.
        encoding: Shared by all sockets of the same form.
        flusher: Of this loop.
        options: Of `Outbound`.
    """

    __slots__ = ("_last", "_newest", "_outdated", "_waiting")

    def __init__(self, conn_id: str, encoding: Encoding, flusher: Flusher, **options: Unpack[OutboundOptions]) -> None:
        super().__init__(conn_id, encoding, flusher, **options)
        # By number, so that one leaves from the middle in one step.
        self._waiting: dict[int, Waiting] = {}
        self._last = 0
        self._newest: dict[Place, int] = {}
        # In the order in which they became so.
        self._outdated: dict[int, None] = {}

    def accept(self, event: Event) -> bool:
        """Take an event, and leave out what there is no room for then; if nothing can be, the socket is closed."""
        if self.ending is not None:
            return False
        encoding = self._encoding
        if encoding.event is not event:
            encoding.encode(event)
        place = None if event.key is None else (event.target_wire, event.key)
        self._add(Waiting(encoding.item, encoding.size, place))
        while self._outdated and (self._limits.conflate == "always" or self._is_too_full):
            self._leave_out(next(iter(self._outdated)))
        if self._is_too_full:
            self._overflowed("too much waits to be written to the socket")
            return False
        self._write_soon()
        return True

    def put(self, item: Any) -> None:  # noqa: ANN401 -- as its encoding makes them
        """Write an item in its place among the events."""
        if self.ending is not None:
            return
        if len(self._waiting) >= self._max_items:
            self._overflowed("too much waits to be written to the socket")
            return
        self._add(Waiting(item, CONTROL_BYTES))
        self.flush()

    def use_chunks(self, chunks: ChunkEncoding) -> None:
        """Take the events of a stream as chunks from now on."""
        super().use_chunks(chunks)
        self._waiting = {
            number: Waiting(chunks.body_item(one.item), one.size, one.place) for number, one in self._waiting.items()
        }

    def flush(self) -> None:
        """Write all that waits, if the socket takes it."""
        self.items = [one.item for one in self._waiting.values()]
        super().flush()
        if not self.items:
            self._waiting.clear()
            self._newest.clear()
            self._outdated.clear()

    @property
    def _is_too_full(self) -> bool:
        return len(self._waiting) > self._max_items or self.bytes > self._max_bytes

    def _add(self, one: Waiting) -> None:
        self._last = number = self._last + 1
        self._waiting[number] = one
        self.bytes += one.size
        if one.place is not None:
            older = self._newest.get(one.place)
            if older is not None:
                self._outdated[older] = None
            self._newest[one.place] = number

    def _leave_out(self, number: int) -> None:
        del self._outdated[number]
        self.bytes -= self._waiting.pop(number).size
        if self.attachment is not None:
            self.attachment.count_conflated()


def make_outbound(
    conn_id: str, encoding: Encoding, flusher: Flusher, limits: Limits, *, closes_on_gap: bool
) -> Outbound:
    """Return one socket's way out; only one that looks at keys pays for that."""
    kind = LatestOutbound if limits.overflow == "latest" else Outbound
    return kind(conn_id, encoding, flusher, limits=limits, closes_on_gap=closes_on_gap)
