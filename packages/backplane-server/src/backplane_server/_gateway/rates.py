"""How often each subject may do something: `Rates`."""

from __future__ import annotations

from typing import Final

from attrs import define, field

__all__ = ["Rates"]

MOST_SUBJECTS: Final = 10_000
"""Whose last second is kept: some 2 MiB. Beyond that those go first who have been silent for longest."""


@define
class Rates:
    """A bucket of tokens for each subject: a second's worth may come at once.

    Args:
        rate: How often in a second.
    """

    _rate: float
    _buckets: dict[str, tuple[float, float]] = field(factory=dict[str, tuple[float, float]], init=False)

    def admits(self, subject: str, now: float) -> bool:
        """Return whether a subject may do it now, and count it.

        Args:
            subject: Who.
            now: `time.monotonic()`, seconds.
        """
        most = max(1.0, self._rate)
        left, at = self._buckets.pop(subject, (most, now))
        left = min(most, left + (now - at) * self._rate)
        is_admitted = left >= 1
        self._buckets[subject] = (left - 1 if is_admitted else left, now)  # at the end: the last to go
        if len(self._buckets) > MOST_SUBJECTS:
            del self._buckets[next(iter(self._buckets))]
        return is_admitted
