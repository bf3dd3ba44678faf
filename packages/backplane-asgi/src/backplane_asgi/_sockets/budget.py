"""How much a client may say: `Budget`."""

from __future__ import annotations

from typing import Final

from attrs import Factory, define, field

__all__ = ["AT_ONCE", "Budget"]

PER_S: Final = 20.0
"""Messages that a client may send per second, for long."""
AT_ONCE: Final = 100.0
"""Messages that it may send at once, as a page does that has just loaded."""


@define
class Budget:
    """A bucket that every message takes one out of, and that time fills.

    Args:
        at_once: How many may come at once.
        per_s: How many a second, for long.
    """

    _at_once: float = AT_ONCE
    _per_s: float = PER_S
    _left: float = field(default=Factory(lambda self: self._at_once, takes_self=True), init=False)
    _counted_at: float = field(default=float("-inf"), init=False)

    def admits(self, now: float) -> bool:
        """Return whether one more may come.

        Args:
            now: Seconds, of any clock that never goes back.
        """
        self._left = min(self._at_once, self._left + (now - self._counted_at) * self._per_s) - 1
        self._counted_at = now
        return self._left >= 0
