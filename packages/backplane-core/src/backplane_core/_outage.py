"""The span in which a pod may have missed events, sans-IO: since the last proof that it heard all."""

from __future__ import annotations

from attrs import define, field

__all__ = ["Outage"]


@define
class Outage:
    """One pod's deafness; it begins deaf. Moments are of the monotonic clock, in seconds.

    A beat of our own that we hear, or an answer in the stream in which the broker delivers, proves that what had passed
    the broker before it was written was read too. That a frame was read proves less: it may have been long on its way,
    or have waited to be read, and what came after it died with the link.

    Args:
        proven_at: All that passed the broker until then was delivered here, or told as missing.
        deaf_since: Since when nothing is heard; None while the link is live.
        reason: Why, for people.
    """

    proven_at: float
    deaf_since: float | None = field(init=False)
    reason: str = field(default="not connected until now", init=False)
    # Since when something is asked for that the broker has not confirmed; None: nothing is.
    _asked_at: float | None = field(default=None, init=False)
    _since: float | None = field(init=False)
    _framed: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.begin(self.proven_at)

    def begin(self, now: float) -> None:
        """Nothing was heard until now, and nothing missed either."""
        self.deaf_since = self._since = self.proven_at = now

    def proved(self, written_at: float) -> None:
        """What was written then came back or was answered, and all that came before it is delivered."""
        self.proven_at = max(self.proven_at, written_at)

    def asked(self, now: float) -> None:
        """More is to be heard from now on: if the link dies before that is confirmed, the span begins here."""
        if self._asked_at is None:
            self._asked_at = now

    def settled(self) -> None:
        """The broker confirmed all that was asked for."""
        self._asked_at = None

    def lost(self, reason: str) -> None:
        """The link died."""
        if self.deaf_since is None:
            self.deaf_since = self.proven_at
        if self._since is None:
            self._since = self.proven_at if self._asked_at is None else min(self.proven_at, self._asked_at)
        self._asked_at = None
        self._framed = False
        self.reason = reason

    def ends_with_frame(self) -> bool:
        """Whether the link's first frame ends a span: it proves subscriptions that the broker has not confirmed yet."""
        if self._since is None or self._framed:
            return False
        self._framed = True
        return True

    def live(self) -> bool:
        """The link is live; return whether that ends a span."""
        self.deaf_since = None
        return self._since is not None

    def end(self, now: float, *, settling: bool) -> float:
        """Return since when events may be missing; where more has to be confirmed, another span begins."""
        since = now if self._since is None else self._since
        self._since = now if settling else None
        self.proven_at = max(self.proven_at, now)
        return since
