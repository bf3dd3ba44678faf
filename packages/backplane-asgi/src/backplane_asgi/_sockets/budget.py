"""How much a client may say: `Budget`."""

from __future__ import annotations

from typing import Final

from attrs import define

__all__ = ["AT_ONCE", "Budget"]

PER_S: Final = 20.0
"""Messages that a client may send per second, for long."""
AT_ONCE: Final = 100.0
"""Messages that it may send at once, as a page does that has just loaded."""


@define
class Budget:
    """A bucket that every message takes one out of, and that time fills."""

    _left: float = AT_ONCE
    _counted_at: float = float("-inf")

    def admits(self, now: float) -> bool:
        """Return whether one more may come.

        Args:
            now: Seconds, of any clock that never goes back.
        """
        self._left = min(AT_ONCE, self._left + (now - self._counted_at) * PER_S) - 1
        self._counted_at = now
        return self._left >= 0
