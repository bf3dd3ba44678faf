"""Where and when frames of other pods were refused, so that what was in them may be missing: `RefusedFrames`."""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import Final

from attrs import define, field

__all__ = ["RefusedFrames"]

MAX_CHANNELS: Final = 65_536
"""Channels that are remembered, those of the latest refusals: 16 MiB."""


@define
class _Refused:
    """Refusals on one channel.

    Args:
        since: When the first refused frame passed the broker, at the earliest.
        read_at: When the last one was read.
    """

    since: float
    read_at: float


@define
class RefusedFrames:
    """Remembers on which channels frames were refused: signed at another time or with another key, or garbled.

    A refused frame has no number that anyone could trust. So nothing is said of it until its sender is accepted again,
    and then its numbers show a hole. The exceptions are the holes that others explain: one across a replaced link is
    part of that outage, and before the first frame of a sender nothing was missed. Neither is true where frames were
    refused meanwhile. Without this, two pods lost 232 deliveries without a gap: one had a wrong clock from 2.2 s to
    4.3 s, so the other refused its frames; and that one had another from 3.4 s to 5.8 s, was deaf therefore, and took
    the whole hole for a part of its gap, which began at 3.3 s.

    There is one entry for each channel and not for each sender, as the name in a refused frame proves nothing.

    Args:
        covered_since: What was refused from then on is inside a gap that goes on: this pod refuses everything. None: it
            does not.
    """

    covered_since: float | None = field(default=None, init=False)
    _channels: OrderedDict[str, _Refused] = field(factory=OrderedDict[str, _Refused], init=False)

    def note(self, channel: str, passed_at: float, read_at: float) -> None:
        """Record that a frame was refused.

        Args:
            channel: Where it came.
            passed_at: When it passed the broker, at the earliest.
            read_at: When it was read.
        """
        known = self._channels.pop(channel, None)
        if known is None:
            if len(self._channels) >= MAX_CHANNELS:
                self._channels.popitem(last=False)
            known = _Refused(passed_at, read_at)
        known.read_at = read_at
        self._channels[channel] = known

    def any_after(self, channel: str, read_at: float) -> bool:
        """Return whether a frame that was read then, or later, was refused on a channel."""
        known = self._uncovered(channel)
        return known is not None and known.read_at >= read_at

    def since(self, channel: str) -> float | None:
        """Return when the first frame that was refused on a channel passed the broker; None: none was."""
        known = self._uncovered(channel)
        return None if known is None else known.since

    def _uncovered(self, channel: str) -> _Refused | None:
        known, covered_since = self._channels.get(channel), self.covered_since
        if known is None or (covered_since is not None and known.since >= covered_since):
            return None
        return known

    def end_cover(self) -> None:
        """Record that the gap ends now: forget what it covers."""
        since, self.covered_since = self.covered_since, None
        if since is not None:
            for channel in [name for name, known in self._channels.items() if known.since >= since]:
                del self._channels[channel]

    def leave(self, channel: str) -> None:
        """Forget a channel that is no longer heard."""
        self._channels.pop(channel, None)

    def expire(self, read_before: float, most: int) -> None:
        """Forget channels on which nothing was refused since some moment, at most so many."""
        for channel, known in [*islice(self._channels.items(), most)]:  # the one that was refused last is the last
            if known.read_at >= read_before:
                break
            del self._channels[channel]
