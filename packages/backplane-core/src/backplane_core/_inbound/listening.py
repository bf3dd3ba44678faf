"""For how long a pod has listened, sans-IO: the clock by which numbers age over a log: `Listening`."""

from __future__ import annotations

from attrs import define, field

__all__ = ["Listening"]


@define(eq=False)
class Listening:
    """The monotonic clock, less the time without a link.

    The invariant: of two copies of one frame in a log, the second is read while the number of the first is known,
    however long the pod was cut off between the two. So a number grows older only while the pod can read.

    An example. A frame is read at 10 s, and the broker dies, forgetting it. It is back at 60 s, and the sender sends
    the frame again. This pod reaches the broker only at 900 s: the number is then seconds old, not fifteen minutes.

    Args:
        deaf_s: For how long there was no link, in all.
        last_deaf_s: For how long there was none the last time.
    """

    deaf_s: float = field(default=0.0, init=False)
    last_deaf_s: float = field(default=0.0, init=False)
    _lost_at: float | None = field(default=None, init=False)

    def lost(self, now: float) -> None:
        """Record that the link died."""
        if self._lost_at is None:
            self._lost_at = now

    def hears(self, now: float) -> bool:
        """Record that a link is read; return whether there was none before."""
        if self._lost_at is None:
            return False
        self.last_deaf_s = now - self._lost_at
        self.deaf_s += self.last_deaf_s
        self._lost_at = None
        return True

    def at(self, now: float) -> float:
        """Return what this clock shows."""
        return (now if self._lost_at is None else self._lost_at) - self.deaf_s
