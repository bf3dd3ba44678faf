"""What a receiver makes of the numbers of others' frames, sans-IO: copies and holes.

A frame carries its own number and its channel's previous one. Equal or older: a copy. A previous one that we have not
heard: a hole of so many frames.
"""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from itertools import islice
from typing import Final

import msgspec
from attrs import define, field

from backplane_core._protocol.holes_across import HoleAcross, HolesAcross
from backplane_core._protocol.refused_frames import RefusedFrames

__all__ = ["DUPLICATE", "UNCOUNTED", "Tracker"]

MAX_NUMBERS: Final = 1_048_576
"""Numbers that a receiver keeps, one per sender and channel: 200 MiB, for 50 senders to 20,000 sockets by name."""
MAX_ORIGIN_BYTES: Final = 64 * 1024 * 1024
"""The names in them: anyone on the bus can make up origins of 1,024 bytes each."""
MAX_LEFT: Final = 65_536
"""Channels that were left and whose numbers may come late."""

SWEEP: Final = 4_096
"""Numbers that one call of `expire` looks at: 1 ms."""
SWEEP_FOR_ROOM: Final = 64
"""Numbers that are compared where one has to go, since the table is full."""

DUPLICATE: Final = -1
UNCOUNTED: Final = -2  # frames are missing, nobody knows how many

_LEFT: Final = -1
_CUT: Final = -2


class Last(msgspec.Struct, gc=False, eq=False):
    """The last frame heard of one origin on one channel.

    There may be a million of them. Those of attrs are walked through by each full garbage collection, which held the
    loop for 80 ms with half a million; these hold nothing that could be part of a circle, so it passes them by.

    Args:
        channel: The channel.
        origin: The sender.
        seq: The frame's number.
        at: When it passed the broker, at the earliest, in the monotonic clock's seconds.
        read_at: When it was read.
        link: How many links were replaced before it was heard; `_LEFT` if the channel was left since, `_CUT` if frames
            of it were reported as missing since.
    """

    channel: str
    origin: str
    seq: int
    at: float
    read_at: float
    link: int


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

    It is bounded, as anyone can make up origins: where there is no room for another number, one that was not heard for
    long goes. The next frame there counts as its sender's first. Forgetting all at once reported 451,913 holes, and
    nothing was missing.

    Args:
        ttl_s: A number whose last frame is so old may be forgotten.
        max_numbers: Numbers that are remembered.
        max_origin_bytes: The origins' names in them.
        keeps_first: Over a log: what a sender published before its first frame that was heard here counts once it
            doubts that its log kept all, since the frames that the log lost may have been its first ones.
        now: When what is read now passed the broker, at the earliest; set by the caller.
        read_at: When it is read; set by the caller. A number's age counts from here: a pod that is busy, or was deaf
            for long, reads what passed the broker long ago as far as it knows.
        hole_since: When the frame before the last hole passed it, at the earliest.
        evicted: Numbers that had to go before their time.
    """

    ttl_s: float
    max_numbers: int = MAX_NUMBERS
    max_origin_bytes: int = MAX_ORIGIN_BYTES
    keeps_first: bool = False
    now: float = field(default=0.0, init=False)
    read_at: float = field(default=0.0, init=False)
    hole_since: float = field(default=0.0, init=False)
    evicted: int = field(default=0, init=False)
    _channels: dict[str, dict[str, Last]] = field(factory=dict[str, dict[str, Last]], init=False)
    # Each number once, in the order in which they are looked at for their age.
    _order: deque[Last] = field(factory=deque[Last], init=False)
    _origin_bytes: int = field(default=0, init=False)
    _left: OrderedDict[str, Left] = field(factory=OrderedDict[str, Left], init=False)
    # Links that were replaced so far.
    _link: int = field(default=0, init=False)
    _refused: RefusedFrames = field(factory=RefusedFrames, init=False)
    # Over a log: how many frames were reported by channel, less those that holes were found of since.
    _reported: dict[str, float] = field(factory=dict[str, float], init=False)
    _across: HolesAcross = field(factory=HolesAcross, init=False)

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

    def accept(self, channel: str, origin: str, seq: int, prev: int | None) -> int:
        """Return how many frames are missing before this one; `UNCOUNTED`: some; `DUPLICATE`: it is a copy."""
        link = self._link if not self._left or self._is_heard(channel) else _LEFT
        origins = self._channels.get(channel)
        last = None if origins is None else origins.get(origin)
        if last is None:
            self._add(Last(channel, sys.intern(origin), seq, self.now, self.read_at, link))
            if self.keeps_first and prev:
                self._across.remember(channel, origin, HoleAcross(prev, self.now, self.read_at))
            return 0 if prev is None else self._uncounted(channel, origin)
        if seq <= last.seq:
            return DUPLICATE
        missing = 0
        if prev is not None and prev > last.seq:
            if _LEFT in {link, last.link}:
                missing = self._uncounted(channel, origin)
            elif last.link == _CUT:
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
            last.link = _CUT

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
            last.link = _LEFT
        self._refused.leave(channel)
        self._left.pop(channel, None)
        if len(self._left) >= MAX_LEFT:
            self._left.popitem(last=False)
        self._left[channel] = Left(now)

    def heard(self, channel: str, now: float) -> None:
        """Record that the broker confirmed the channel. Holes count once all that was read before is worked off."""
        left = self._left.get(channel)
        if left is not None:
            left.heard_at = now

    def expire(self, now: float) -> None:
        """Forget some of the numbers that are older than `ttl_s`; a part of the table at each call."""
        self._sweep(SWEEP, now)
        self._refused.expire(now - self.ttl_s, SWEEP_FOR_ROOM)
        for channel, left in [*islice(self._left.items(), SWEEP_FOR_ROOM)]:  # in the order in which they were left
            if now - left.at <= self.ttl_s:
                break
            del self._left[channel]
        self._across.expire(now - self.ttl_s, SWEEP_FOR_ROOM)

    def _add(self, last: Last) -> None:
        size = len(last.origin)
        self._sweep(2, self.read_at)
        if len(self._order) >= self.max_numbers or self._origin_bytes + size > self.max_origin_bytes:
            self._make_room(size)
        self._channels.setdefault(last.channel, {})[last.origin] = last
        self._order.append(last)
        self._origin_bytes += size

    def _make_room(self, size: int) -> None:
        while self._order and (
            len(self._order) >= self.max_numbers or self._origin_bytes + size > self.max_origin_bytes
        ):
            looked_at = [self._order.popleft() for _ in range(min(SWEEP_FOR_ROOM, len(self._order)))]
            oldest = min(looked_at, key=lambda it: it.read_at)
            self._order.extend([it for it in looked_at if it is not oldest])
            self._forget(oldest)
            self.evicted += 1

    def _sweep(self, most: int, now: float) -> None:
        order = self._order
        for _ in range(min(most, len(order))):
            last = order.popleft()
            if now - last.read_at > self.ttl_s:
                self._forget(last)
            else:
                order.append(last)

    def _forget(self, last: Last) -> None:
        origins = self._channels[last.channel]
        del origins[last.origin]
        if not origins:
            del self._channels[last.channel]
        self._origin_bytes -= len(last.origin)

    @property
    def numbers(self) -> int:
        """How many numbers are remembered."""
        return len(self._order)
