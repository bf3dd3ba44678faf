"""What a receiver makes of the numbers of others' frames, sans-IO: copies and holes.

A frame carries its own number and its channel's previous one. Equal or older: a copy. A previous one that we have not
heard: a hole of so many frames.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from itertools import islice
from typing import Final

from attrs import define, field

from backplane_core._protocol.heard_numbers import CUT, LEFT, HeardNumbers, Last
from backplane_core._protocol.holes_across import HoleAcross, HolesAcross
from backplane_core._protocol.refused_frames import RefusedFrames

__all__ = ["DUPLICATE", "UNCOUNTED", "Tracker"]

MAXLEFT: Final = 65_536
"""Channels that were left and whose numbers may come late."""
EXPIRE_AT_ONCE: Final = 64
"""Of the smaller tables, as much as one call of `expire` looks at."""

DUPLICATE: Final = -1
UNCOUNTED: Final = -2  # frames are missing, nobody knows how many


@define(eq=False)
class Left:
    """A channel that was left: its frames may still be on their way to the reader, and so may those of a next time.

    Args:
        at: When it was left.
        heard_at: When it was heard again; None: it is not.
    """

    at: float
    heard_at: float | None = None


@define
class Tracker:
    """The receiver's memory: the last number heard per channel and origin.

    The invariants: a frame whose number was heard within `ttl_s` is a copy, whatever happened to link or channel. A
    hole is reported only where all of it should have been heard: on one link, on a channel that was heard throughout;
    or where its sender doubts that the fleet heard it.

    A hole across a replaced link is part of that outage's gap, as the sender was on the same node all along. Unless it
    was not: its node was replaced, and went on confirming to it what nobody else heard, after this pod had moved on.
    Only the sender knows. So such a hole is remembered, and counts once the sender marks the channel as doubted; and at
    once where frames were refused meanwhile, see `RefusedFrames`.

    An example. Sender `o` publishes 1, 2, 3 on `user:u1`; 2 is lost, so 3 (which follows on 2) finds 1: one is missing.
    The link is replaced; 3 comes again: a copy. 7 comes, which follows on 6: nothing is missing that the gap of the
    outage does not cover. The user leaves, `o` publishes 8 to 57, the user comes back, 58 comes: nothing is missing.

    Where a number was forgotten, the next frame there counts as its sender's first.

    Args:
        ttl_s: A number whose last frame is so old may be forgotten.
        numbers: The last ones heard.
        keeps_first: Over a log: what a sender published before its first frame that was heard here counts once it
            doubts that its log kept all, since the frames that the log lost may have been its first ones.
        now: When what is read now passed the broker, at the earliest; set by the caller.
        read_at: When it is read; set by the caller. A number's age counts from here: a pod that is busy, or was deaf
            for long, reads what passed the broker long ago as far as it knows.
        hole_since: When the frame before the last hole passed it, at the earliest.
    """

    ttl_s: float
    numbers: HeardNumbers = field(factory=HeardNumbers)
    keeps_first: bool = False
    now: float = field(default=0.0, init=False)
    read_at: float = field(default=0.0, init=False)
    hole_since: float = field(default=0.0, init=False)
    # The numbers' own, spared a look-up per frame.
    _channels: dict[str, dict[str, Last]] = field(init=False)
    _left: OrderedDict[str, Left] = field(factory=OrderedDict[str, Left], init=False)
    # Links that were replaced so far.
    _link: int = field(default=0, init=False)
    _refused: RefusedFrames = field(factory=RefusedFrames, init=False)
    # Over a log: how many frames were reported by channel, less those that holes were found of since.
    _reported: dict[str, float] = field(factory=dict[str, float], init=False)
    _across: HolesAcross = field(factory=HolesAcross, init=False)

    def __attrs_post_init__(self) -> None:
        self._channels = self.numbers.channels

    def follows(self, channel: str, origin: str, seq: int | None, prev: int | None) -> bool:
        """Take a frame if it is the very next one of a sender that is known there; return whether it was."""
        origins = self._channels.get(channel)
        last = None if origins is None else origins.get(origin)
        # The sender's own numbers are consecutive: anything else needs a closer look.
        if last is None or prev != last.seq or seq != last.seq + 1 or last.link != self._link:
            return False
        last.seq += 1
        last.at, last.read_at = self.now, self.read_at
        return True

    def knows(self, channel: str, origin: str) -> bool:
        """Return whether a number of this sender is known on this channel."""
        return origin in self._channels.get(channel, {})

    def accept(self, channel: str, origin: str, seq: int, prev: int | None) -> int:
        """Return how many frames are missing before this one; `UNCOUNTED`: some; `DUPLICATE`: it is a copy."""
        link = self._link if not self._left or self._is_heard(channel) else LEFT
        origins = self._channels.get(channel)
        last = None if origins is None else origins.get(origin)
        if last is None:
            first = Last(channel, sys.intern(origin), seq, self.now, self.read_at, link)
            self.numbers.add(first, self.read_at - self.ttl_s)
            if self.keeps_first and prev:
                self._across.remember(channel, origin, HoleAcross(prev, self.now, self.read_at))
            return 0 if prev is None else self._uncounted(channel, origin)
        if seq <= last.seq:
            return DUPLICATE
        missing = 0
        if prev is not None and prev > last.seq:
            if LEFT in {link, last.link}:
                missing = self._uncounted(channel, origin)
            elif last.link == CUT:
                missing, self.hole_since = self._take_reported(channel, prev - last.seq), last.at
            else:
                missing = self._counted(channel, last, prev - last.seq)
        last.seq, last.at, last.read_at, last.link = seq, self.now, self.read_at, link
        return missing

    def _counted(self, channel: str, last: Last, missing: int) -> int:
        """Return how many of these frames count now."""
        if last.link != self._link and not self._refused.any_after(channel, last.origin, last.read_at):
            hole = HoleAcross(missing, last.at, self.read_at)
            if self._across.remember(channel, last.origin, hole):
                return 0
        self.hole_since = last.at
        return missing

    def _uncounted(self, channel: str, origin: str) -> int:
        """Return `UNCOUNTED` if frames of a sender were refused since the channel is heard; nothing else is missing."""
        since = self._refused.since(channel, origin)
        if since is None:
            return 0
        self.hole_since = since
        return UNCOUNTED

    def learn(self, channel: str, origin: str, seq: int) -> None:
        """Record a number that was heard before this pod listened: what comes up to it is a copy.

        Args:
            channel: The channel.
            origin: The sender.
            seq: The frame's number.
        """
        last = self._channels.get(channel, {}).get(origin)
        if last is None:
            first = Last(channel, sys.intern(origin), seq, self.now, self.read_at, self._link)
            self.numbers.add(first, self.read_at - self.ttl_s)
        else:
            last.seq = max(last.seq, seq)

    def doubted(self, channel: str, origin: str) -> int:
        """Return how many frames that this sender doubts were taken for part of an outage here, and forget them.

        `hole_since` is then when the frame before them passed the broker.
        """
        across = self._across.take(channel, origin)
        if across is None:
            return 0
        self.hole_since = across.since
        return across.missing

    def refused(self, channel: str, origin: str) -> None:
        """Record that a frame which names this sender was refused on a channel."""
        self._refused.note(channel, origin, self.now, self.read_at)

    def refuses_all(self, since: float) -> None:
        """Record that this pod refuses everything, inside a gap from some moment on."""
        self._refused.covered_since = since
        self.cut()

    def accepts_again(self) -> None:
        """Record that this gap ends."""
        self._refused.end_cover()

    def _is_heard(self, channel: str) -> bool:
        """Whether all that is read now of a channel came after it was heard for the last time."""
        left = self._left.get(channel)
        if left is None:
            return True
        if left.heard_at is None or self.now < left.heard_at:
            return False
        del self._left[channel]
        return True

    def cut(self) -> None:
        """Record that the link was replaced; copies must still be known."""
        self._link += 1

    def cut_channel(self, channel: str, missing: float) -> None:
        """Record that frames of a channel are missing which were reported; holes across this are part of that gap.

        Args:
            channel: The channel.
            missing: How many were reported; what holes have more than these counts.
        """
        self._reported[channel] = self._reported.get(channel, 0) + missing
        for last in self._channels.get(channel, {}).values():
            last.link = CUT

    def _take_reported(self, channel: str, missing: int) -> int:
        """Return how many of a hole's frames were not reported yet."""
        left = self._reported.get(channel, 0)
        self._reported[channel] = max(0, left - missing)
        return int(max(0, missing - left))

    def leave(self, channel: str, now: float) -> None:
        """Record that the channel is no longer heard: what passes meanwhile is not missing. Copies are still known.

        Args:
            channel: The channel.
            now: The monotonic clock.
        """
        for last in self._channels.get(channel, {}).values():
            last.link = LEFT
        self._refused.leave(channel)
        self._left.pop(channel, None)
        if len(self._left) >= MAXLEFT:
            self._left.popitem(last=False)
        self._left[channel] = Left(now)

    def heard(self, channel: str, now: float) -> None:
        """Record that the broker confirmed the channel. Holes count once all that was read before is worked off."""
        left = self._left.get(channel)
        if left is not None:
            left.heard_at = now

    def expire(self, now: float) -> None:
        """Forget some of the numbers that are older than `ttl_s`; a part of the table at each call."""
        self.numbers.expire(now - self.ttl_s)
        self._refused.expire(now - self.ttl_s, EXPIRE_AT_ONCE)
        for channel, left in [*islice(self._left.items(), EXPIRE_AT_ONCE)]:  # in the order in which they were left
            if now - left.at <= self.ttl_s:
                break
            del self._left[channel]
        self._across.expire(now - self.ttl_s, EXPIRE_AT_ONCE)
