"""What a link sent lately, sans-IO: all of it may be lost with its node, or have reached nobody; see `ProvingLink`."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Final

from attrs import define, field, frozen

from backplane_core._protocol.numbering import MAX_CHANNELS
from backplane_core.transport import Frame, Proven

__all__ = ["InDoubt", "InDoubtSends"]

SPAN_S: Final = 1.0
"""Sends are grouped in spans this long, so up to this much extra is kept."""

MAX_SPANS: Final = 8
"""A sound link is in doubt for two to four seconds. If it is in doubt for longer, the last span grows."""


@frozen(kw_only=True)
class InDoubt:
    """What was in doubt when a link died.

    Args:
        since: Nothing that the link said of what came after this moment proves anything.
        sent: The channels that frames went to since, with how many of those were events.
        deposed: Whether others may have received none of it.
    """

    since: float
    sent: Mapping[str, int]
    deposed: bool


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

    The invariant: every frame that was confirmed after the link's last `replicated_until` is counted here, on its own
    channel or on `rest`, so that no channel whose last events may be lost is left without a mark.

    An example, with Redis Sentinel. The sentinels confirm the master until 10.0 s, when it is cut off from them and
    another one is promoted. This pod still reaches the old one, which confirms three events on `user:u1` at 10.5 s and
    a beat at 11.0 s. At 12.0 s the sentinels name the new master, and the link is dead: in doubt since 10.0 s are three
    events on `user:u1` and none on the shared channel. The next link beats on both. Pods that knew this one find that
    its numbers skip by three; for those that started since, the three are counted as `dropped["in_doubt"]`.

    Without this, a pod whose last event went to a deposed master showed its receivers no hole, until it published
    there again.

    Args:
        rest: The channel that frames beyond `MAX_CHANNELS` channels within one span count for.
        pod_start: The start of every frame that is for pods, such as a beat: no event is in doubt with it.
    """

    rest: str
    pod_start: bytes
    _spans: deque[Span] = field(factory=deque[Span], init=False)

    def opened(self) -> None:
        """Forget the last link: another one is used from now on."""
        self._spans.clear()

    def confirmed(self, frames: Sequence[Frame], replicated_until: float | None, now: float) -> None:
        """Record that the broker confirmed these, and forget those that it has replicated.

        Args:
            frames: What was confirmed.
            replicated_until: What was confirmed by then is not in doubt; None: nothing is.
            now: The clock.
        """
        self._forget(replicated_until)
        if replicated_until is None or not frames:
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
        start = self.pod_start
        if for_pods := [at for at, frame in zip(channels, frames, strict=True) if frame[1].startswith(start)]:
            sent.subtract(for_pods)

    def lost(self, proven: Proven) -> InDoubt | None:
        """Return what is in doubt now that the link is dead, by its last answer; None: nothing is."""
        since = proven.replicated_until
        if since is None:
            return None
        self._forget(since)
        sent = Counter[str]()
        for span in self._spans:
            sent.update(span.sent)
        return InDoubt(since=since, sent=sent, deposed=proven.deposed)

    def _forget(self, replicated_until: float | None) -> None:
        spans = self._spans
        while spans and (replicated_until is None or spans[0].end <= replicated_until):
            spans.popleft()
