"""What a link sent recently, sans-IO: its node may lose it, or have accepted it without effect; see `DoubtingLink`."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Final

from attrs import define, field, frozen

from backplane_core._protocol.sequence import MAX_CHANNELS
from backplane_core._runtime.faults import log_fault
from backplane_core.transport import DoubtingLink, Frame, Link

__all__ = ["InDoubt", "InDoubtSends"]

SPAN_S: Final = 1.0
"""Sends are grouped in spans this long, so up to this much extra is kept."""

MAX_SPANS: Final = 8
"""A sound link is in doubt for two to four seconds. If it is in doubt for longer, the last span grows."""


@frozen(kw_only=True)
class InDoubt:
    """What was in doubt when a link died.

    Args:
        since: The moment after which nothing that the link said proves anything.
        sent: The channels that frames went to since then, with how many of those were events.
        in_vain: Whether other pods may have received none of it.
    """

    since: float
    sent: Mapping[str, int]
    in_vain: bool


@define
class Span:
    """Frames confirmed from one moment to another, counted by channel; a beat counts 0."""

    begin: float
    end: float
    sent: Counter[str] = field(factory=Counter[str], init=False)


@define
class InDoubtSends:
    """What one link sent since its node was last certain to be in sync; nothing, if the link is never in doubt.

    Unconfirmed frames are not in doubt: they are sent again. Moments are in seconds of the monotonic clock.

    Args:
        rest: The channel that frames beyond `MAX_CHANNELS` channels within one span count for.
        beat_suffix: The end of every beat's payload.
    """

    rest: str
    beat_suffix: bytes
    _link: DoubtingLink | None = field(default=None, init=False)
    _opened_at: float = field(default=0.0, init=False)
    sure_until: float | None = field(default=None, init=False)
    """The moment after which nothing that the link says proves anything; None if all of it does."""
    _spans: deque[Span] = field(factory=deque[Span], init=False)

    def opened(self, link: Link, now: float) -> None:
        """Record that another link is used from now on."""
        self._opened_at = now
        self._spans.clear()
        self.moved(link)

    def moved(self, link: Link) -> None:
        """Record that this link took over; what the other one sent may still be on its way."""
        self._link = link if isinstance(link, DoubtingLink) else None
        self.sure_until = None if self._link is None else self._link.sure_until

    def confirmed(self, frames: Sequence[Frame], now: float) -> None:
        """Record that the broker confirmed these, and forget what is no longer in doubt."""
        if self._link is None:
            return
        self.sure_until = sure_until = self._link.sure_until
        self._forget(sure_until)
        if sure_until is None or not frames:
            return
        spans = self._spans
        if not spans or (now - spans[-1].begin >= SPAN_S and len(spans) < MAX_SPANS):
            spans.append(Span(now, now))
        spans[-1].end = now
        sent = spans[-1].sent
        channels = [frame[0] for frame in frames]
        if len(sent) >= MAX_CHANNELS:
            channels = [channel if channel in sent else self.rest for channel in channels]
        sent.update(channels)
        beat = self.beat_suffix
        if beats := [at for at, frame in zip(channels, frames, strict=True) if frame[1].endswith(beat)]:
            sent.subtract(beats)

    def lost(self) -> InDoubt | None:
        """Return what is in doubt now that the link is dead; a link that fails to say is not trusted at all."""
        link, self._link = self._link, None
        if link is None:
            return None
        try:
            since, in_vain = link.sure_until, link.in_vain
        except Exception as error:  # noqa: BLE001 -- a link's fault must not end the life of links
            log_fault("the link failed", error)
            since, in_vain = self._opened_at, True
        if since is None:
            return None
        self._forget(since)
        sent = Counter[str]()
        for span in self._spans:
            sent.update(span.sent)
        return InDoubt(since=since, sent=sent, in_vain=in_vain)

    def _forget(self, sure_until: float | None) -> None:
        spans = self._spans
        while spans and (sure_until is None or spans[0].end <= sure_until):
            spans.popleft()
