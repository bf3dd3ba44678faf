"""The span in which a pod may have missed events, sans-IO: since the last proof that it heard all."""

from __future__ import annotations

from attrs import define, field

__all__ = ["Watermark"]


@define
class Watermark:
    """One pod's deafness; it begins deaf. Moments are of the monotonic clock, in seconds.

    A beat of our own that we hear, or an answer in the stream in which the broker delivers, proves that what had passed
    the broker before it was written was read too. That a frame was read proves less: it may have been long on its way,
    or have waited to be read, and what came after it died with the link.

    Args:
        heard_at: The last sign of life.
        deaf_since: Since when nothing is heard; None while the link is live.
        at: All that passed the broker until then was delivered here, or told as missing.
        reason: Why it is deaf, for people.
        beats_prove: Whether a beat that is heard proves that all before it was heard: in a link of one stream.
        ceiling: Nothing that the link says of a later moment proves anything; None: all that it says does.
    """

    heard_at: float
    deaf_since: float | None = field(init=False)
    at: float = field(init=False)
    # Since when something is asked for that the broker has not confirmed; None: nothing is.
    _asked_at: float | None = field(default=None, init=False)
    reason: str = field(default="not connected until now", init=False)
    beats_prove: bool = field(default=True, init=False)
    ceiling: float | None = field(default=None, init=False)
    _since: float | None = field(init=False)
    _framed: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.begin(self.heard_at)

    def begin(self, now: float) -> None:
        """Record that nothing was heard until now, and nothing missed either."""
        self.heard_at = self.deaf_since = self._since = self.at = now

    def advance(self, written_at: float) -> None:
        """Record that what was written then came back, or was answered in order, and all before it is delivered."""
        if self.ceiling is not None:
            written_at = min(written_at, self.ceiling)
        self.at = max(self.at, written_at)

    def asked(self, now: float) -> None:
        """Record that more is to be heard from now on: a link that dies before that is confirmed has missed it all."""
        if self._asked_at is None:
            self._asked_at = now
        # The first frame ended the span for what was asked for before it, and for no more.
        if self.deaf_since is not None and self._since is None:
            self._since = now

    def settled(self) -> None:
        """Record that all that was asked for is confirmed."""
        self._asked_at = None

    def lost(self, reason: str, doubted_since: float | None = None) -> None:
        """Record that the link died, and that nothing that it proved of what came after `doubted_since` holds."""
        if self.deaf_since is None:
            self.deaf_since = self.heard_at
        known = (self._since, self.at, self._asked_at, doubted_since)
        self._since = min([moment for moment in known if moment is not None])
        self._asked_at = None
        self._framed = False
        self.reason = reason

    def ends_with_frame(self) -> bool:
        """Return whether a frame ends a span: the link's first proves subscriptions before the broker confirms them."""
        if self._since is None or self._framed:
            return False
        self._framed = True
        return True

    def live(self, now: float) -> bool:
        """Record that the link is live; return whether that ends a span."""
        self.deaf_since = None
        self.heard_at = now
        return self._since is not None

    def end(self, now: float, *, settling: bool) -> float:
        """Return since when events may be missing; where more has to be confirmed, another span begins."""
        since = now if self._since is None else self._since
        self.at = now  # what is missing until then is told
        self._since = now if settling else None
        return since
