"""The last number heard of each sender on each channel, in a bounded table: `HeardNumbers`."""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec
from attrs import define, field

__all__ = ["CUT", "LEFT", "HeardNumbers", "Last"]

MAX_NUMBERS: Final = 1_048_576
"""Numbers that a receiver keeps, one per sender and channel: 200 MiB, for 50 senders to 20,000 sockets by name."""
MAX_ORIGIN_BYTES: Final = 64 * 1024 * 1024
"""The names in them: anyone on the bus can make up origins of 1,024 bytes each."""

SWEEP: Final = 4_096
"""Numbers that one call of `expire` looks at: 1 ms."""
SWEEP_FOR_ROOM: Final = 64
"""Numbers that are compared where one has to go, since the table is full."""

LEFT: Final = -1
CUT: Final = -2


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
        link: How many links were replaced before it was heard; `LEFT` if the channel was left since, `CUT` if frames
            of it were reported as missing since.
    """

    channel: str
    origin: str
    seq: int
    at: float
    read_at: float
    link: int


@define
class HeardNumbers:
    """Remembers numbers, and is bounded, as anyone can make up origins.

    Where there is no room for another number, one that was not heard for long goes. Forgetting all at once reported
    451,913 holes, and nothing was missing.

    Args:
        max_numbers: Numbers that are remembered.
        max_origin_bytes: The origins' names in them.
    """

    max_numbers: int = MAX_NUMBERS
    max_origin_bytes: int = MAX_ORIGIN_BYTES
    channels: dict[str, dict[str, Last]] = field(factory=dict[str, dict[str, Last]], init=False)
    """By channel and origin."""
    evicted: int = field(default=0, init=False)
    """Numbers that had to go before their time."""
    # Each number once, in the order in which they are looked at for their age.
    _order: deque[Last] = field(factory=deque[Last], init=False)
    _origin_bytes: int = field(default=0, init=False)

    def __len__(self) -> int:
        return len(self._order)

    def add(self, last: Last, expired_at: float) -> None:
        """Remember the first number of an origin on a channel.

        Args:
            last: The number.
            expired_at: Those that were read before this moment of the monotonic clock may be forgotten.
        """
        size = len(last.origin)
        self._sweep(2, expired_at)
        if len(self._order) >= self.max_numbers or self._origin_bytes + size > self.max_origin_bytes:
            self._make_room(size)
        self.channels.setdefault(last.channel, {})[last.origin] = last
        self._order.append(last)
        self._origin_bytes += size

    def expire(self, expired_at: float) -> None:
        """Forget some of the numbers that were read before this moment; a part of the table at each call."""
        self._sweep(SWEEP, expired_at)

    def _make_room(self, size: int) -> None:
        while self._order and (
            len(self._order) >= self.max_numbers or self._origin_bytes + size > self.max_origin_bytes
        ):
            looked_at = [self._order.popleft() for _ in range(min(SWEEP_FOR_ROOM, len(self._order)))]
            oldest = min(looked_at, key=lambda it: it.read_at)
            self._order.extend([it for it in looked_at if it is not oldest])
            self._forget(oldest)
            self.evicted += 1

    def _sweep(self, most: int, expired_at: float) -> None:
        order = self._order
        for _ in range(min(most, len(order))):
            last = order.popleft()
            if last.read_at < expired_at:
                self._forget(last)
            else:
                order.append(last)

    def _forget(self, last: Last) -> None:
        origins = self.channels[last.channel]
        del origins[last.origin]
        if not origins:
            del self.channels[last.channel]
        self._origin_bytes -= len(last.origin)
