"""What a log has confirmed lately, sans-IO: kept to be sent again if the log forgets it: `ResendRing`."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence

from attrs import define, field

from backplane_core.transport import Frame

__all__ = ["ResendRing"]


@define(eq=False)
class Confirmed:
    """Frames that were confirmed together.

    Args:
        at: When, in seconds of the monotonic clock.
        frames: Unsigned, in their order.
        bytes: The size of their payloads.
        cursors: Where the last of them is in the log of each of their channels.
    """

    at: float
    frames: Sequence[Frame]
    bytes: int
    cursors: Mapping[str, str]


@define(eq=False)
class ResendRing:
    """The frames that a durable broker confirmed within the last seconds, and where in each log the last one is.

    A confirmation is not always kept: a Redis without AOF restarts empty, one with `appendfsync everysec` may lack its
    last second, and a replica that is promoted lacks what had not reached it yet. The log that comes back is then
    shorter, and as it forgets from its end, the last entry is enough to see that.

    The invariant: if a log lacks the last entry that it confirmed to this pod, all frames of that channel that were
    confirmed within `keep_s` before the link died go to it again, in order, before anything new. Receivers know their
    numbers and drop the copies. What is older is a hole that they find by number, as the channel is marked with a beat.

    An example. Numbers 1 to 90 are confirmed over a minute; the broker restarts with what it had up to 50. The ring has
    60 to 90 and sends those. A receiver that had read 85 drops 60 to 85 as copies and takes the rest. One that had read
    40 reads 41 to 50 in the log, is notified of a gap of 9, and goes on with 60.

    Args:
        keep_s: How long a frame is kept after its confirmation, in seconds, counted while the link lives.
        max_bytes: The most bytes of payloads; the oldest go first.
        bytes: How many it holds.
    """

    keep_s: float
    max_bytes: int
    bytes: int = field(default=0, init=False)
    _kept: deque[Confirmed] = field(factory=deque[Confirmed], init=False)
    _last: dict[str, str] = field(factory=dict[str, str], init=False)
    _let_go: dict[str, str] = field(factory=dict[str, str], init=False)

    def confirmed(self, frames: Sequence[Frame], now: float, cursors: Mapping[str, str]) -> None:
        """Keep frames that were confirmed now, and let go of those that are too old, or too many.

        Args:
            frames: Unsigned, in their order.
            now: The monotonic clock.
            cursors: Where the last confirmed entry is in the log of each channel.
        """
        size = sum([len(frame[1]) for frame in frames])
        own = {frame[0]: cursors[frame[0]] for frame in frames if frame[0] in cursors}
        self._kept.append(Confirmed(now, tuple(frames), size, own))
        self._last.update(own)
        self.bytes += size
        while self._kept and (self.bytes > self.max_bytes or now - self._kept[0].at > self.keep_s):
            oldest = self._kept.popleft()
            self.bytes -= oldest.bytes
            self._let_go.update(oldest.cursors)

    def sent_again(self, channels: Collection[str], cursors: Mapping[str, str]) -> None:
        """Record that what is kept of these channels went to the log again, and where its last entries are now."""
        for channel in channels:
            self._last.pop(channel, None)
            if channel in cursors:
                self._last[channel] = cursors[channel]

    @property
    def last(self) -> Mapping[str, str]:
        """The cursor of the last entry that was confirmed on each channel, by any link."""
        return self._last

    def let_go(self, channels: Collection[str]) -> Mapping[str, str]:
        """Return the cursors of the last entries of these channels that are no longer kept, for those that had any.

        If a log lacks one of these as well, not all that it forgot can be sent again.
        """
        return {channel: self._let_go[channel] for channel in channels if channel in self._let_go}

    def frames_of(self, channels: Collection[str], since: float) -> list[Frame]:
        """Return what is kept of these channels and was confirmed since some moment, in order."""
        return [frame for kept in self._kept if kept.at >= since for frame in kept.frames if frame[0] in channels]
