"""What `backplane.history` returns: `History`."""

from __future__ import annotations

from attrs import frozen

from backplane_core.event import Event

__all__ = ["History"]


@frozen(kw_only=True)
class History:
    """The last events of one target that the log still has, or a page of older ones.

    Args:
        events: The oldest first. Each one's `id` is a place of this target: what stands before it is read with
            `before`, and a connection that resumes there gets what the target got since.
        id: Where it ends. A connection with this target that resumes there goes on behind it, with nothing left out
            and nothing twice.
        older: Hand it to `before` for what is older. None: the log has nothing older of this target. What it had is
            trimmed, or lost.
    """

    events: tuple[Event, ...]
    id: str
    older: str | None

    @property
    def complete(self) -> bool:
        """Whether nothing older of this target is left in the log."""
        return self.older is None
