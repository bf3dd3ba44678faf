"""What a mirror must not forget while logs are read up to where it begins, sans-IO: `Holds`."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from attrs import define, field

__all__ = ["HELD_BYTES", "Holds"]

HELD_BYTES: Final = 8 * 1024 * 1024
"""What a mirror may have beyond its limit meanwhile: some seconds of 2,000 events/s."""


@define(eq=False)
class Holds:
    """Knows from which record on somebody counts on a mirror.

    An example. Memory begins with entry 500 of a log, and a client comes that had 100. While 101 to 499 are read for
    it, 200 more events come, and as memory is full, it would forget 500 to 699: what was read would end before memory
    begins. So it keeps them until the client is there, which takes some milliseconds. More than `HELD_BYTES` are not
    kept; then the client reads on from 499.
    """

    begins: dict[object, int] = field(factory=dict[object, int], init=False)
    """By who holds: from which serial on."""

    @contextmanager
    def holding(self, serial: int) -> Generator[None]:
        """Hold the records from this one on, within this block."""
        holder = object()
        self.begins[holder] = serial
        try:
            yield
        finally:
            del self.begins[holder]

    def holds(self, serial: int, excess_bytes: int) -> bool:
        """Return whether a record must not be forgotten, though there are so many bytes too many."""
        return excess_bytes <= HELD_BYTES and serial >= min(self.begins.values())
