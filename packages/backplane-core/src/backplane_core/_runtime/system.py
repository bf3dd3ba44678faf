"""What a backplane takes from its environment: two clocks, randomness and names. A test passes its own."""

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
    """The clocks and the randomness of this machine.

    Args:
        monotonic: The clock for decisions, in seconds. Steps of the wall clock do not move it.
        wall: The clock for people, Unix time in seconds.
        random: Spreads a fleet's attempts to connect; not for secrets.
        new_name: Creates an origin, or the id of a connection, unique within the fleet.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    random: Random = field(factory=Random)
    new_name: Callable[[], str] = _new_name

    def wall_at(self, moment: float) -> float:
        """Return the wall clock's time, as it is set now, at a time of the monotonic clock."""
        return self.wall() - (self.monotonic() - moment)
