"""When what is delivered now passed the bus: `BusTime` is the simplest form, for a pod without one."""

from __future__ import annotations

from typing import Protocol

from attrs import frozen

from backplane_core._runtime.system import System

__all__ = ["BusTime", "LocalTime"]


class BusTime(Protocol):
    """Bounds how long an event was on its way here: what a full queue drops leaves a gap that begins no later."""

    def earliest(self) -> float:
        """Return a moment of the monotonic clock: nothing that is delivered from now on passed the bus before it."""
        ...


@frozen
class LocalTime:
    """In memory nothing is on its way.

    Args:
        system: The clock.
    """

    _system: System

    def earliest(self) -> float:
        """Return what time it is."""
        return self._system.monotonic()
