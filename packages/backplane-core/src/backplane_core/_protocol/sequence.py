"""Sequence numbers, sans-IO: the sender's per channel, and the receiver's memory of what it heard.

A frame carries its own number and its channel's previous one. Equal or older: a copy. A previous number that we have
not heard: a hole of exactly that many frames.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from attrs import define, field

__all__ = ["DUPLICATE", "UNKNOWN", "Number", "Numbering", "Tracker"]

MAX_CHANNELS: Final = 65_536
"""Channels whose last number a sender keeps: 8 MiB. Beyond it the oldest is forgotten, which is safe."""

MAX_ORIGINS: Final = 65_536
"""Senders that a receiver keeps numbers of: 9 MiB. More than any fleet has, short-lived workers included."""
MAX_NUMBERS: Final = 1_048_576
"""Numbers that a receiver keeps, one per sender and channel: 100 MiB."""

DUPLICATE: Final = -1
UNKNOWN: Final = -2


@define(eq=False)
class Number:
    """A channel's last number; 0 while it is not known."""

    last: int = 0


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
            _, forgotten = self._numbers.popitem(last=False)
            self._floor = max(self._floor, forgotten.last)
            forgotten.last = 0
        self._numbers[channel] = number = Number(self._floor + 1)
        return number.last, None

    def number(self, channel: str) -> Number:
        """Return a channel's number, after a first `take`. Whoever keeps it takes by adding one, unless it is 0."""
        return self._numbers[channel]


@define
class Last:
    """The last frame heard of one origin on one channel: its number, and when, in the monotonic clock's seconds."""

    seq: int
    at: float


@define
class Tracker:
    """The receiver's memory: the last number heard per channel and origin.

    Bounded, as anyone on the bus can make up origins: when it is full all is forgotten. Then what a sender's next frame
    follows on is not known, so it counts as a hole of unknown size; a copy of what was forgotten may pass.

    Args:
        ttl_s: An origin whose last frame is so old is forgotten.
        keeps_left: Copies are known also on a channel that was left and is heard again.
        max_origins: Origins that are remembered.
        max_numbers: Numbers that are remembered.
        now: When what is read now passed the broker, at the earliest; set by whoever calls.
        hole_since: When the frame before the last hole passed it, at the earliest.
    """

    ttl_s: float
    keeps_left: bool = False
    max_origins: int = MAX_ORIGINS
    max_numbers: int = MAX_NUMBERS
    now: float = field(default=0.0, init=False)
    hole_since: float = field(default=0.0, init=False)
    # Heard since the last cut, and before it: a hole across a cut may belong to a gap that is told already.
    _heard: dict[str, dict[str, Last]] = field(factory=dict[str, dict[str, Last]], init=False)
    _before_cut: dict[str, dict[str, Last]] = field(factory=dict[str, dict[str, Last]], init=False)
    _last_seen: dict[str, float] = field(factory=dict[str, float], init=False)
    _numbers: int = field(default=0, init=False)
    _overflowed_at: float = field(default=float("-inf"), init=False)
    _told: bool = field(default=True, init=False)

    def follows(self, channel: str, origin: str, seq: int | None, prev: int | None) -> bool:
        """Take a frame if it is the very next one of a sender that is known there; return whether it was."""
        origins = self._heard.get(channel)
        last = None if origins is None else origins.get(origin)
        # The sender's own numbers are consecutive: anything else needs a closer look.
        if last is None or prev != last.seq or seq != last.seq + 1:
            return False
        last.seq += 1
        last.at = self._last_seen[origin] = self.now
        return True

    def accept(self, channel: str, origin: str, seq: int, prev: int | None) -> int:
        """Return how many frames are missing before this one (0: none; `UNKNOWN`), or `DUPLICATE` if it is a copy."""
        origins = self._heard.get(channel)
        last = None if origins is None else origins.get(origin)
        if origins is None or last is None:
            return self._accept_first(channel, origin, seq, prev)
        self._last_seen[origin] = self.now
        if seq <= last.seq:
            return DUPLICATE
        missing = 0
        if prev is not None and prev > last.seq:
            missing = prev - last.seq
            self.hole_since = last.at
        last.seq = seq
        last.at = self.now
        return missing

    def _accept_first(self, channel: str, origin: str, seq: int, prev: int | None) -> int:
        """Accept the first frame of an origin on a channel since the last cut."""
        old = self._before_cut.get(channel)
        missing = 0
        if old is not None and origin in old:
            last = old[origin]
            if last.seq >= seq:
                return DUPLICATE
            if not self._told and prev is not None and prev > last.seq:
                missing = prev - last.seq
                self.hole_since = last.at
            del old[origin]
            if not old:
                del self._before_cut[channel]
            self._numbers -= 1
        else:
            if self._is_full(origin):
                self._forget_all()
            # Whoever was forgotten before that would be forgotten by now anyhow.
            if prev and self.now - self._overflowed_at <= self.ttl_s:
                missing = UNKNOWN
                self.hole_since = self._overflowed_at - self.ttl_s
        self._heard.setdefault(channel, {})[origin] = Last(seq, self.now)
        self._numbers += 1
        self._last_seen[origin] = self.now
        return missing

    def cut(self, *, told: bool = True) -> None:
        """The link was replaced; copies must still be known.

        Args:
            told: What is missing across the cut is in its gap. Else a hole across it counts as any other.
        """
        # What an earlier cut left untold is so until it was heard of, or forgotten.
        self._told = told and (self._told or not self._before_cut)
        for channel, origins in self._heard.items():
            self._before_cut.setdefault(channel, {}).update(origins)
        self._heard.clear()

    def forget_channel(self, channel: str) -> None:
        """The channel is not heard any more: when it is heard again, its numbers start afresh."""
        if self.keeps_left:
            if left := self._heard.pop(channel, None):
                self._before_cut.setdefault(channel, {}).update(left)
            return
        for table in (self._heard, self._before_cut):
            self._numbers -= len(table.pop(channel, ()))

    def expire(self, now: float) -> None:
        """Forget the origins that were silent for `ttl_s`."""
        gone = {origin for origin, at in self._last_seen.items() if now - at > self.ttl_s}
        if not gone:
            return
        for origin in gone:
            del self._last_seen[origin]
        for table in (self._heard, self._before_cut):
            for channel in list(table):
                origins = table[channel]
                here = origins.keys() & gone
                self._numbers -= len(here)
                for origin in here:
                    del origins[origin]
                if not origins:
                    del table[channel]

    def _is_full(self, origin: str) -> bool:
        return self._numbers >= self.max_numbers or (
            len(self._last_seen) >= self.max_origins and origin not in self._last_seen
        )

    def _forget_all(self) -> None:
        self._heard.clear()
        self._before_cut.clear()
        self._last_seen.clear()
        self._numbers = 0
        self._overflowed_at = self.now

    @property
    def origins(self) -> int:
        """How many origins are remembered."""
        return len(self._last_seen)
