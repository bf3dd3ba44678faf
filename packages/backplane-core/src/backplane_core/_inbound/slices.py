"""How much notifying is done at once: every walk over connections is cut into slices of the loop's time."""

from __future__ import annotations

from typing import Final

__all__ = ["SLICE_ENTRIES", "SLICE_S"]

SLICE_S: Final = 0.002
"""How long notifying holds the loop before it gives it a turn, as delivery does."""
SLICE_ENTRIES: Final = 64
"""Connections notified between two looks at the clock: some 0.1 ms of work, and of the host's."""
