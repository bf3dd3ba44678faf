"""How a server hears the others: the bounds of its queue, and how long its first clients wait for that."""

from __future__ import annotations

from typing import Final

__all__ = ["CONFIRM_S", "MAX_PENDING", "MAX_PENDING_BYTES", "RETRY_S", "START_S"]

MAX_PENDING: Final = 10_000
"""Messages of others that may wait to be handled: some seconds of a busy fleet."""
MAX_PENDING_BYTES: Final = 64 * 1024 * 1024
"""The same in bytes."""
START_S: Final = 1.0
"""Seconds for which the first clients wait until their server hears the others. Without its broker it goes on deaf."""
CONFIRM_S: Final = 5.0
"""Seconds for which entering a room waits for the broker; the room has a gap if that was not enough."""
RETRY_S: Final = 1.0
"""Seconds until a server that was not let in tries again."""
