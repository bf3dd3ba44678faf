"""The span in which a pod may have missed events, sans-IO: from the last sign of life to all being heard again."""

from __future__ import annotations

from attrs import define, field

__all__ = ["Outage"]


@define
class Outage:
    """One pod's deafness; it begins deaf. Moments are of the monotonic clock, in seconds.

    Args:
        heard_at: The last sign of life. What a dying link took with it was published before anyone noticed.
        deaf_since: Since when nothing is heard; None while the link is live.
        reason: Why, for people.
    """

    heard_at: float
    deaf_since: float | None = field(init=False)
    reason: str = field(default="not connected until now", init=False)
    _since: float | None = field(init=False)
    _framed: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.deaf_since = self._since = self.heard_at

    def lost(self, reason: str) -> None:
        """The link died."""
        if self.deaf_since is None:
            self.deaf_since = self.heard_at
        if self._since is None:
            self._since = self.heard_at
        self._framed = False
        self.reason = reason

    def ends_with_frame(self) -> bool:
        """Whether the link's first frame ends a span: it proves subscriptions that the broker has not confirmed yet."""
        if self._since is None or self._framed:
            return False
        self._framed = True
        return True

    def live(self, now: float) -> bool:
        """The link is live; return whether that ends a span."""
        self.deaf_since = None
        self.heard_at = now
        return self._since is not None

    def end(self, now: float, *, settling: bool) -> float:
        """Return since when events may be missing; where more has to be confirmed, another span begins."""
        since = now if self._since is None else self._since
        self._since = now if settling else None
        return since
