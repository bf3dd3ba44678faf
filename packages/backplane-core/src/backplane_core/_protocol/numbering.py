"""The numbers of a sender's frames, per channel, sans-IO: `Numbering`.

A frame carries its own number and its channel's previous one; `sequence` is what receivers make of them.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from attrs import define, field

__all__ = ["MAX_CHANNELS", "Number", "Numbering"]

MAX_CHANNELS: Final = 65_536
"""Channels whose last number a sender keeps: 8 MiB. Beyond it one that was quiet lately is forgotten, which is
safe: its next frame says that it follows on nothing."""

SWEEP: Final = 64
"""Channels that are looked at where one has to go, since the table is full."""


@define(eq=False)
class Number:
    """A channel's last number; 0 while it is not known.

    Args:
        last: The number.
        looked_at: What it was when somebody last had to be forgotten.
    """

    last: int = 0
    looked_at: int = 0


@define
class Numbering:
    """The sender's numbers: consecutive from 1 on each channel."""

    max_channels: int = MAX_CHANNELS
    # Ordered: a plain dict looks for its oldest key among all the places where older ones were.
    _numbers: OrderedDict[str, Number] = field(factory=OrderedDict[str, Number], init=False)
    # A forgotten channel goes on above every forgotten number, so that its next frame can't pass for a copy.
    _floor: int = field(default=0, init=False)

    def peek(self, channel: str) -> tuple[int, int | None]:
        """Return what `take` would, and use nothing up."""
        number = self._numbers.get(channel)
        return (self._floor + 1, None) if number is None else (number.last + 1, number.last)

    def take(self, channel: str) -> tuple[int, int | None]:
        """Use up and return the channel's next number, and its previous one or None where it is not known."""
        number = self._numbers.get(channel)
        if number is not None:
            last = number.last
            number.last = last + 1
            return last + 1, last
        if len(self._numbers) >= self.max_channels:
            self._forget_one()
        self._numbers[channel] = number = Number(self._floor + 1)
        return number.last, None

    def _forget_one(self) -> None:
        """Forget a channel that had no frame since it was last looked at; the shared one, which beats, never is."""
        for _ in range(SWEEP):
            channel, number = self._numbers.popitem(last=False)
            if number.last == number.looked_at:
                break
            number.looked_at = number.last
            self._numbers[channel] = number  # at the end
        else:
            _, number = self._numbers.popitem(last=False)
        self._floor = max(self._floor, number.last)
        number.last = 0

    def number(self, channel: str) -> Number:
        """Return a channel's number, after a first `take`. Its keeper takes the next by adding one, unless it is 0."""
        return self._numbers[channel]
