"""What the return of a pod's own beat proves: that the link hears, and has heard everything so far.

It also shows how long the bus takes: a beat goes the way of an event, out of the outbox and back through the reader,
and one clock reads both ends. Nothing is measured per event.
"""

from __future__ import annotations

from backplane_core._inbound.watermark import Watermark
from backplane_core._protocol.frame import decode_head
from backplane_core._protocol.heartbeat import Heartbeat
from backplane_core._protocol.peers import Peers
from backplane_core._runtime.counters import Counters
from backplane_core._runtime.system import System
from backplane_core.errors import EnvelopeError

__all__ = ["OwnBeats"]


class OwnBeats:
    """Takes the beats that come back, and holes that may have been one.

    Args:
        shared: The channel whose beats prove something, see `Routing.shared`.
        heartbeat: Decides whether the link is deaf.
        peers: Remembers which beats this pod sent, and when.
        counters: Of this pod.
        watermark: Moves to when a beat was sent that came back.
        system: The clocks.
    """

    def __init__(
        self,
        shared: str,
        heartbeat: Heartbeat,
        peers: Peers,
        *,
        counters: Counters,
        watermark: Watermark,
        system: System,
    ) -> None:
        self.last_heard_at: float | None = None
        """When a beat last came back, Unix time in seconds; None if none ever did."""
        self._shared = shared
        self._heartbeat = heartbeat
        self._peers = peers
        self._counters = counters
        self._watermark = watermark
        self._system = system
        self._measured = float("-inf")  # up to the beat that was sent then

    def heard(self, channel: str, payload: bytes) -> None:
        """Record that a beat under our origin came back on a channel."""
        self.last_heard_at = self._system.wall()
        self._heartbeat.heard()
        if channel == self._shared:
            try:
                head = decode_head(payload)
            except EnvelopeError:
                return  # not from a pod: only its prefix and suffix look like ours
            sent_at = self._peers.beat_heard(head.origin, head.seq or 0)
            if sent_at is None:
                return
            if sent_at > self._measured:  # not a copy, nor one that was overtaken
                self._measured = sent_at
                self._counters.made_round_trip(self._system.monotonic() - sent_at)
            if self._watermark.beats_prove:
                self._watermark.advance(sent_at)

    def missed(self, channel: str | None) -> None:
        """Record that frames of a channel (None: of any) are missing; one of our beats may have been among them."""
        # If beats prove something, a missing one shows that the link is deaf; otherwise the link may live on.
        if not self._watermark.beats_prove and channel in {None, self._shared}:
            self._heartbeat.missed()
