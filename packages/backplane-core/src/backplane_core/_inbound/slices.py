"""How much notifying is done at once: every walk over connections is cut into slices of the loop's time."""

from __future__ import annotations

from typing import Final

__all__ = ["SLICE_ENTRIES", "SLICE_S"]

SLICE_S: Final = 0.001
"""How long one walk holds the loop before it gives it a turn. Two may be under way, besides a slice of delivery, which
is twice as long: together they stay under the 5 ms that people call a stall."""
SLICE_ENTRIES: Final = 32
"""Connections notified between two looks at the clock: some 0.1 ms of work, with a hole on each of eight lanes 1 ms,
and the host's work."""
