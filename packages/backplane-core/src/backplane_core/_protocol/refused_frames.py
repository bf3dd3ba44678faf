"""Whose frames were refused, where and when, so that what was in them may be missing: `RefusedFrames`."""

from __future__ import annotations

from itertools import islice
from typing import Final

from attrs import define, field

__all__ = ["RefusedFrames"]

_ANY: Final = ""

MAX_CHANNELS: Final = 16_384
"""Channels that are remembered; beyond it the oldest is forgotten. Anyone may write to those that this pod hears."""
MAX_ORIGINS: Final = 64
"""Senders on one channel; the others are remembered as one that may be any."""


@define
class _Refused:
    """Refusals of one sender on one channel.

    Args:
        since: When the first refused frame passed the broker, at the earliest.
        read_at: When the last one was read.
    """

    since: float
    read_at: float


@define
class RefusedFrames:
    """Remembers whose frames were refused on which channels, as they were signed at another time.

    A refused frame may be an old one that somebody sends again, so nothing is made of its number. Its sender's numbers
    show a hole once it is accepted again. The exceptions are holes that seem to be explained: one across a replaced
    link is part of that outage, what passed while a channel was left was not wanted, and before the first frame of a
    sender nothing was missed. None of it is true where frames were refused meanwhile.

    Without this, two pods lost 232 deliveries without a gap: one had a wrong clock from 2.2 s to 4.3 s, so the other
    refused its frames; and that one had another from 3.4 s to 5.8 s, was deaf therefore, and took the whole hole for a
    part of its gap, which began at 3.3 s.

    It is remembered for each sender, which a frame names truly whose signature is right and only its time is wrong.
    Otherwise each pod that is heard for the first time would be a hole, once somebody's frame was refused.

    Args:
        covered_since: What was refused from then on is inside a gap that goes on: this pod refuses everything. None: it
            does not.
    """

    covered_since: float | None = field(default=None, init=False)
    _channels: dict[str, dict[str, _Refused]] = field(factory=dict[str, dict[str, _Refused]], init=False)

    def note(self, channel: str, origin: str, passed_at: float, read_at: float) -> None:
        """Record that a frame was refused.

        Args:
            channel: Where it came.
            origin: The sender that it names.
            passed_at: When it passed the broker, at the earliest.
            read_at: When it was read.
        """
        origins = self._channels.get(channel)
        if origins is None:
            if len(self._channels) >= MAX_CHANNELS:
                del self._channels[next(iter(self._channels))]
            origins = self._channels[channel] = {}
        name = origin if origin in origins or len(origins) < MAX_ORIGINS else _ANY
        origins.setdefault(name, _Refused(passed_at, read_at)).read_at = read_at

    def any_after(self, channel: str, origin: str, read_at: float) -> bool:
        """Return whether a sender's frame that was read then, or later, was refused on a channel."""
        return any(known.read_at >= read_at for known in self._uncovered(channel, origin))

    def since(self, channel: str, origin: str) -> float | None:
        """Return when the first frame of a sender that was refused on a channel passed the broker; None: none was."""
        return min([known.since for known in self._uncovered(channel, origin)], default=None)

    def _uncovered(self, channel: str, origin: str) -> list[_Refused]:
        origins = self._channels.get(channel)
        if origins is None:
            return []
        found = [origins[name] for name in (origin, _ANY) if name in origins]
        return [known for known in found if self.covered_since is None or known.since < self.covered_since]

    def end_cover(self) -> None:
        """Record that the gap ends now: forget what it covers."""
        since, self.covered_since = self.covered_since, None
        if since is not None:
            for channel in [*self._channels]:
                self._keep(channel, {name: one for name, one in self._channels[channel].items() if one.since < since})

    def leave(self, channel: str) -> None:
        """Forget a channel that is no longer heard."""
        self._channels.pop(channel, None)

    def expire(self, read_before: float, most: int) -> None:
        """Forget what was refused before some moment, on at most so many channels; the next call looks at others."""
        for channel in [*islice(self._channels, most)]:
            origins = self._channels.pop(channel)
            self._keep(channel, {name: one for name, one in origins.items() if one.read_at >= read_before})

    def _keep(self, channel: str, origins: dict[str, _Refused]) -> None:
        if origins:
            self._channels[channel] = origins
        else:
            self._channels.pop(channel, None)
