"""How far each sender has got in each log, sans-IO: `Senders`."""

from __future__ import annotations

from typing import Final

__all__ = ["Senders"]

MAX_SENDERS: Final = 4_096
"""Senders that are remembered per lane: anyone on the bus can make up origins."""


class Senders:
    """The last numbers that this pod has handed out, by lane and sender (`origin_key`).

    Args:
        lanes: How many there are.
    """

    def __init__(self, lanes: int) -> None:
        self._last: list[dict[str, int]] = [{} for _ in range(lanes)]
        self.lagging: list[dict[str, int]] = [{} for _ in range(lanes)]
        """By lane: the senders whose last number a log that lost its end may not have again yet."""
        self.again: list[dict[str, int]] = [{} for _ in range(lanes)]
        """By lane: the last numbers of those that it has again."""
        self.went_back_at = [0] * lanes
        """By lane: behind which serial of the mirror that was; 0: it never did."""

    def heard(self, lane: int, sender: str, seq: int) -> None:
        """Record that a number was handed out."""
        last = self._last[lane]
        if sender not in last and len(last) >= MAX_SENDERS:
            del last[next(iter(last))]
        last[sender] = seq

    def last(self, lane: int, sender: str) -> int:
        """Return the last number of a sender; 0: none is known."""
        return self._last[lane].get(sender, 0)

    def went_back(self, lane: int, serial: int) -> None:
        """Record that a log lost its end, behind a serial of the mirror."""
        self.lagging[lane], self.again[lane] = dict(self._last[lane]), {}
        self.went_back_at[lane] = serial

    def came_again(self, lane: int, sender: str, seq: int) -> bool:
        """Record that the log has a number again; return whether it may have lost it."""
        last = self.lagging[lane].get(sender)
        if last is None or seq > last:
            return False
        self.again[lane][sender] = seq
        if seq == last:
            self.caught_up(lane, sender)
        return True

    def is_lacking(self, lane: int, sender: str, seq: int) -> bool:
        """Return whether the log may have lost this number, and has not got it again."""
        last = self.lagging[lane].get(sender)
        return last is not None and self.again[lane].get(sender, 0) < seq <= last

    def caught_up(self, lane: int, sender: str) -> None:
        """Record that the log has all of a sender again that it will ever have."""
        self.lagging[lane].pop(sender, None)
