"""When to try to open a link again, sans-IO: `Backoff` takes a clock reading and returns how long to wait."""

from __future__ import annotations

from random import Random
from typing import Final

from attrs import define, field

__all__ = ["Backoff"]

FIRST_WAIT_S: Final = 0.05
LONGEST_WAIT_S: Final = 1.6
"""With these two, the next attempt after an outage of up to 18 s comes at most 1.6 s after the broker is back."""

PATIENCE_S: Final = 20.0
PATIENT_WAIT_S: Final = (2.5, 5.0)
"""After 20 s a broker is not restarting but down: a fleet must not greet it with a storm."""

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
    _down_since: float | None = field(default=None, init=False)
    _live_since: float | None = field(default=None, init=False)

    def live(self, now: float) -> None:
        """Record that the link went live."""
        self._live_since, self._down_since = now, None

    def lost(self, now: float, *, retryable: bool = True) -> float:
        """Record that the link was lost or an attempt failed; return how many seconds to wait before the next one."""
        if self._live_since is not None and now - self._live_since >= STEADY_S:
            self._wait = FIRST_WAIT_S
        self._live_since = None
        if self._down_since is None:
            self._down_since = now
        if not retryable:
            return self.random.uniform(*REFUSED_WAIT_S)
        if now - self._down_since >= PATIENCE_S:
            return self.random.uniform(*PATIENT_WAIT_S)
        wait, self._wait = self._wait, min(self._wait * 2, LONGEST_WAIT_S)
        return self.random.uniform(wait / 4, wait)
