"""What this pod did for others under a number: sans-IO, `Tallies` lets a roll call find what came before it.

An order, and an event that is to be receipted, travel on the channel of their target, where they keep their place among
the other events of their sender. Only pods that hold the target hear that channel, so a roll call under the same number
follows on the channel that all pods hear, and each answers what it did. On most brokers the roll call comes last. Where
it does not, as another node carried it, this pod waits for what it is about.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from attrs import define, field

__all__ = ["Tallies", "Tally"]

MAX_TALLIES: Final = 4_096
"""Numbers that are remembered; the oldest goes first. A roll call comes within milliseconds."""


@define(eq=False)
class Tally:
    """What was done under one number.

    Args:
        count: How many connections were changed, or took the event.
        done: The targets, in their wire form, that the order was followed for.
        is_event_seen: Whether the event came.
    """

    count: int = 0
    done: set[bytes] = field(factory=set[bytes])
    is_event_seen: bool = False


@define(eq=False)
class Tallies:
    """The latest numbers of all pods."""

    _tallies: OrderedDict[tuple[str, int], Tally] = field(factory=OrderedDict[tuple[str, int], Tally], init=False)

    def of(self, origin: str, number: int) -> Tally:
        """Return the tally of a pod's number, a new one if there is none."""
        tally = self._tallies.get((origin, number))
        if tally is None:
            if len(self._tallies) >= MAX_TALLIES:
                self._tallies.popitem(last=False)
            tally = self._tallies[origin, number] = Tally()
        return tally
