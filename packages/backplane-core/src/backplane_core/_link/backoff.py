"""When to try to open a link again, sans-IO: `Backoff` takes a clock reading and returns how long to wait.

The promise: once the broker accepts connections again, a pod tries within `LONGEST_WAIT_S`, however long the outage
was. That holds as long as attempts failed quickly, as they do while nobody listens on the port or the broker says why
it does not serve. Such an attempt costs next to nothing, so there is no need to grow tired of it. Before, the waits
grew to 5 s after an outage of 20 s, and users saw a dead page for 5 s more than there was a reason for.

An attempt that got no answer at all is different: the broker, or what stands before it, may be overloaded by a fleet
that comes back, and each attempt adds to that. After `PATIENCE_S` of silence the waits are longer.

Example, for 1,000 pods and a broker that was down for a minute: each pod waits 0.5 to 2 s between attempts, 1.25 s on
average, so they do not come all at once: about a tenth of them arrive within any 100 ms.
"""

from __future__ import annotations

from random import Random
from typing import Final

from attrs import define, field

__all__ = ["Backoff"]

FIRST_WAIT_S: Final = 0.05
LONGEST_WAIT_S: Final = 2.0
"""What users wait at most for a broker that is back, besides the handshake. Half as long would be 1,600 attempts a
second for a fleet of 1,000 pods."""

PATIENCE_S: Final = 20.0
PATIENT_WAIT_S: Final = (2.5, 5.0)
"""After 20 s a broker that answers nothing is not restarting: a fleet must not keep it from coming back."""

REFUSED_WAIT_S: Final = (5.0, 7.5)
"""Bad credentials or certificates won't fix themselves, and brokers lock out clients that retry too often."""

STEADY_S: Final = 5.0
"""A link that lived for this long was a good one: the next loss starts with short waits again."""


@define
class Backoff:
    """Draws the waits between attempts to open a link.

    Args:
        random: Spreads a fleet's attempts, so that its pods do not come back in step.
    """

    random: Random
    _wait: float = field(default=FIRST_WAIT_S, init=False)
    _silent_since: float | None = field(default=None, init=False)
    _live_since: float | None = field(default=None, init=False)

    def live(self, now: float) -> None:
        """Record that the link went live."""
        self._live_since, self._silent_since = now, None

    def lost(self, now: float, *, retryable: bool = True, silent: bool = False) -> float:
        """Record that the link was lost or an attempt failed; return how many seconds to wait before the next one.

        Args:
            now: By the monotonic clock, in seconds.
            retryable: Whether another attempt may succeed without anybody changing something.
            silent: The attempt failed because nothing answered in time.
        """
        if self._live_since is not None and now - self._live_since >= STEADY_S:
            self._wait = FIRST_WAIT_S
        self._live_since = None
        if not silent:
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = now
        if not retryable:
            return self.random.uniform(*REFUSED_WAIT_S)
        if self._silent_since is not None and now - self._silent_since >= PATIENCE_S:
            return self.random.uniform(*PATIENT_WAIT_S)
        wait, self._wait = self._wait, min(self._wait * 2, LONGEST_WAIT_S)
        return self.random.uniform(wait / 4, wait)
