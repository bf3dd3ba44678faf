"""A client that comes back with the id of its last event: `Return`."""

from __future__ import annotations

from attrs import define, field

from backplane_core._log.record import Record
from backplane_core._protocol.position import Position
from backplane_core.observe import Gap

__all__ = ["Return"]


@define(eq=False)
class Return:
    """A client that comes back.

    Args:
        position: Where it was; None: nobody knows.
        wires: The wire forms of its targets.
        starts: By lane: behind which serial of the mirror it goes on; None: with what comes.
        older: What it missed that the mirror has forgotten, in order.
        gaps: What it misses for good, and comes first.
        behind: By lane: what this pod has yet to read that the client has had, or may have had.
    """

    position: Position | None
    wires: frozenset[bytes]
    starts: list[int | None]
    older: list[Record] = field(factory=list[Record])
    gaps: list[Gap] = field(factory=list[Gap])
    behind: dict[int, str] = field(factory=dict[int, str])

    def is_for(self, record: Record) -> bool:
        """Return whether an event is for this client, judged by its targets."""
        return record.event is not None and record.target_for(self.wires) is not None
