"""Rate limits: `Bucket`, and `Rates` for each subject."""

from __future__ import annotations

from typing import Final

from attrs import define, field

__all__ = ["Bucket", "Rates"]

MOST_SUBJECTS: Final = 10_000
"""Subjects that are remembered: some 2 MiB. Beyond that the least recent ones are forgotten."""


@define
class Bucket:
    """A bucket that time fills, and that each time takes one out of.

    Args:
        rate: How often in a second.
        at_once: How often at once.
    """

    _rate: float
    _at_once: float
    _left: float = field(init=False)
    _at: float | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._left = self._at_once

    def admits(self, now: float) -> bool:
        """Return whether it may be done now, and count it.

        Args:
            now: `time.monotonic()`, seconds.
        """
        passed = 0.0 if self._at is None else now - self._at
        self._left, self._at = min(self._at_once, self._left + passed * self._rate), now
        if self._left < 1:
            return False
        self._left -= 1
        return True


@define
class Rates:
    """A token bucket for each subject: a second's worth may come at once.

    Args:
        rate: Times per second.
    """

    _rate: float
    _buckets: dict[str, Bucket] = field(factory=dict[str, Bucket], init=False)

    def admits(self, subject: str, now: float) -> bool:
        """Return whether a subject may do it now, and count it.

        Args:
            subject: Whose bucket it is.
            now: `time.monotonic()`, seconds.
        """
        bucket = self._buckets.pop(subject, None) or Bucket(self._rate, max(1.0, self._rate))
        self._buckets[subject] = bucket  # at the end: the last to go
        if len(self._buckets) > MOST_SUBJECTS:
            del self._buckets[next(iter(self._buckets))]
        return bucket.admits(now)
