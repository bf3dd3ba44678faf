"""What a backplane takes from outside: two clocks, chance, and a name for itself. A test puts its own in."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from uuid import uuid4

from attrs import field, frozen

__all__ = ["System"]


def _new_name() -> str:
    return uuid4().hex


@frozen(kw_only=True)
class System:
    """This machine's clocks and chance.

    Args:
        monotonic: The clock that decides, in seconds. No step of the wall clock moves it.
        wall: The clock that people read, Unix time in seconds.
        random: Spreads a fleet's attempts to connect; guards nothing.
        new_name: Makes an origin, or a connection's id: no two alike in a fleet.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    random: Random = field(factory=Random)
    new_name: Callable[[], str] = _new_name

    def wall_at(self, moment: float) -> float:
        """Return what the wall clock, as it goes now, showed at a moment of the monotonic one."""
        return self.wall() - (self.monotonic() - moment)
