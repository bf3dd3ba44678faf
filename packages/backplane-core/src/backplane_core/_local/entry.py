"""One attached connection, as its pod's registry knows it: `Entry`."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, frozen

from backplane_core._local.presence import Presence
from backplane_core.backplane import CloseCallback, Sink
from backplane_core.event_sink import EventSink
from backplane_core.observe import Gap, GapCallback
from backplane_core.target import Intersection, Target, targets_in

__all__ = ["Entry", "Span"]


@frozen
class Span:
    """A span of the monotonic clock, in seconds, in which events may have passed a connection by."""

    since: float
    until: float


@define(eq=False, kw_only=True)
class Entry:
    """One attached connection.

    Args:
        conn_id: Its id.
        sink: None once detached, so that a fan-out under way passes it by.
        raw: Whether the sink takes JSON bytes.
        on_gap: Called with gaps; None: nobody is.
        queue: What the sink belongs to, if that is a queue: it takes gaps in stream order, rather than at once.
        since: When it was attached, in the monotonic clock's seconds.
        is_direct: Whether it gets the events of `Target.connection(conn_id)`.
        generation: Counts the sinks it has had; an `Attachment` of an earlier one is stale.
        covered: The last outage that it was notified of, as far as it goes.
        last_hole: The number of the last hole that it knows of, see `Holes`.
        notified_at: When it was last notified of a gap, in the monotonic clock's seconds.
        pending_gap: Gaps that it was not notified of yet, merged.
        info: What its host says of it to those who ask, as JSON.
        on_close: Called when an order closes it; None: nobody is.
        presence: What is shown of it in its targets; None: it is not.
    """

    conn_id: str
    sink: Sink | None
    raw: bool
    on_gap: GapCallback | None
    since: float
    queue: EventSink | None = None
    is_direct: bool = True
    generation: int = 0
    targets: set[Target] | None = None
    covered: Span | None = None
    last_hole: int = 0
    notified_at: float = float("-inf")
    pending_gap: Gap | None = None
    info: bytes | None = None
    on_close: CloseCallback | None = None
    presence: Presence | None = None

    @property
    def hears_gaps(self) -> bool:
        """Whether anybody looks at its gaps."""
        return self.on_gap is not None if self.queue is None else self.queue.hears_gaps

    @property
    def all_targets(self) -> Sequence[Target]:
        """All but "everyone", which every connection has."""
        own = (Target.connection(self.conn_id),) if self.is_direct else ()
        return (*own, *(self.targets or ()))

    def has_all_of(self, target: Target | Intersection) -> bool:
        """Return whether it has a target, or all those of an intersection."""
        own = self.targets or ()
        return all(one in own or self.has_by_itself(one) for one in targets_in(target))

    def has_by_itself(self, target: Target) -> bool:
        """Return whether it has a target without having been associated with it."""
        return target.kind == "everyone" or (
            self.is_direct and target.kind == "connection" and target.id == self.conn_id
        )
