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

    The invariant: every frame that passed the broker until `at` was delivered here, or reported as missing. So a gap
    that begins at `at` leaves nothing out, however late the pod finds out that its link is dead.

    An example. A beat of 10.0 s comes back at 10.1 s: `at` is 10.0, not 10.1, since a frame that passed the broker in
    between may still be on its way. At 11.0 s the line is cut, but the loop is busy, and what had arrived by then is
    read at 15.0 s. The link is found dead and replaced at 16.0 s. The gap is from 10.0 to 16.0 s. If it
    began with the last frame that was read, it would begin at 15.0 s, and everything since 11.0 s would be missing.

    Args:
        heard_at: The last sign of life.
        deaf_since: Since when nothing is heard; None while the link is live.
        at: All that passed the broker until then was delivered here, or told as missing.
        reason: Why it is deaf, for people.
        beats_prove: Whether a beat that is heard proves that all before it was heard: in a link of one stream.
        refusal: Why everything that others send is refused although the link is live; None: it is not.
        ceiling: Nothing that the link says of a later moment proves anything; None: all that it says does.
    """

    heard_at: float
    deaf_since: float | None = field(init=False)
    at: float = field(init=False)
    reason: str = field(default="not connected until now", init=False)
    refusal: str | None = field(default=None, init=False)
    beats_prove: bool = field(default=True, init=False)
    ceiling: float | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.begin(self.heard_at)

    def begin(self, now: float) -> None:
        """Record that nothing was heard until now, and nothing missed either."""
        self.heard_at = self.deaf_since = self.at = now

    def earliest(self) -> float:
        """Return `at`: what is delivered from now on passed the broker later, or was published here."""
        return self.at

    def advance(self, written_at: float) -> None:
        """Record that what was written then came back, or was answered in order, and all before it is delivered."""
        if self.refusal is not None:
            return  # what came was not taken
        if self.ceiling is not None:
            written_at = min(written_at, self.ceiling)
        self.at = max(self.at, written_at)

    def lost(self, reason: str) -> None:
        """Record that the link died."""
        if self.deaf_since is None:
            self.deaf_since = self.heard_at
        self.reason = reason

    def live(self, now: float) -> None:
        """Record that the link is live: every channel is heard."""
        self.heard_at = now
        if self.refusal is None:
            self.deaf_since = None
        else:
            self.reason = self.refusal

    def refuse(self, since: float, reason: str) -> None:
        """Record that everything that others send is refused, since then at the latest."""
        self.at, self.reason, self.refusal = min(self.at, since), reason, reason
        self.deaf_since = since

    def accept(self) -> None:
        """Record that what others send is taken again, on a link that is live."""
        self.refusal = self.deaf_since = None

    def reported(self, now: float) -> None:
        """Record that whatever is missing until then has been reported."""
        self.at = max(self.at, now)
