"""What a beat says, and on which channels one is due: `Beats`."""

from __future__ import annotations

from typing import Final

from backplane_core._outbound.frame_builder import FrameBuilder
from backplane_core._outbound.losses import Losses
from backplane_core._outbound.outbox import BATCH_BYTES, End, Outbox
from backplane_core._protocol.peers import Peers

__all__ = ["Beats"]

MARKS_PER_BEAT: Final = 512
"""Lost tails that are marked at once: a fraction of a batch. The others are marked with the next beats."""

MAX_BEATS: Final = 8
"""Beats that may wait beyond the bounds of the outbox."""


class Beats:
    """Puts beats into the outbox: on the shared channel, and wherever receivers would not see a hole without one.

    Args:
        shared: The channel that every pod hears.
        frames: Builds and numbers them.
        outbox: Takes them.
        losses: Knows the channels whose last frames were dropped.
        peers: Remembers what this pod sent.
    """

    def __init__(self, shared: str, frames: FrameBuilder, outbox: Outbox, losses: Losses, peers: Peers) -> None:
        self._shared = shared
        self._frames = frames
        self._outbox = outbox
        self._tails = losses.tails
        self._peers = peers
        # Behind each that may not be confirmed yet.
        self._ends: list[End] = []

    def put(self, now: float) -> bool:
        """Put a beat on the shared channel, and one on each channel with a lost tail.

        Args:
            now: The monotonic clock.

        Returns:
            False if not all were put, since very much waits: try again soon.
        """
        outbox, tails = self._outbox, self._tails
        channels = [self._shared, *[tail for tail in list(tails)[:MARKS_PER_BEAT] if tail != self._shared]]
        for channel in channels:
            frame, seq = self._frames.beat(channel, doubt=tails.get(channel, False))
            if channel == self._shared:
                # A link that confirms none is given up, but the next one may be as well.
                self._ends = [end for end in self._ends if not end.is_passed]
                if len(self._ends) >= MAX_BEATS:
                    return False
                outbox.reserve(frame)
                end = End()
                outbox.mark(end)
                self._ends.append(end)
                self._peers.beat_sent(seq, now)
            elif outbox.bytes > outbox.max_bytes + BATCH_BYTES:
                return False
            else:
                # Room of its own, of a batch: in a small outbox the beat and events would never leave it any.
                outbox.reserve(frame)
            self._frames.numbering.take(channel)
            tails.pop(channel, None)
        return not tails
