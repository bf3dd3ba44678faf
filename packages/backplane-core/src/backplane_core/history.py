"""The result of `backplane.history`: `History`."""

from __future__ import annotations

from attrs import frozen

from backplane_core.event import Event

__all__ = ["History"]


@frozen(kw_only=True)
class History:
    """The last events of one target that the log still has, or a page of older ones.

    Args:
        events: The events, oldest first. The `id` of each is a position of this target: pass it as `before` to read
            older events, or as `resume_from` to a connection to get newer ones.
        id: The end of the history. A connection with this target that resumes there misses nothing and gets nothing
            twice.
        older: Pass it as `before` to read older events. None: the log has none of this target; they were trimmed or
            lost.
    """

    events: tuple[Event, ...]
    id: str
    older: str | None

    @property
    def complete(self) -> bool:
        """Whether the log has no older events of this target."""
        return self.older is None
