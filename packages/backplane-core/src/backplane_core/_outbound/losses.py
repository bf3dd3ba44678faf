"""What will not reach other pods: `Losses` counts and reports it, and knows where a beat must show the hole."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from backplane_core._protocol.numbering import MAX_CHANNELS
from backplane_core._protocol.own_frames import OwnFrames
from backplane_core._runtime.reporter import Reporter
from backplane_core.observe import EventDropped
from backplane_core.queues import is_queue
from backplane_core.transport import Frame

__all__ = ["Losses"]

REFUSED: Final = "refused"


class Losses:
    """One pod's frames that were dropped. Events are counted and reported, what is for pods alone is not.

    Args:
        own: How a beat, and what else is for pods, is recognized.
        reporter: Counts, and notifies the host.
    """

    def __init__(self, own: OwnFrames, reporter: Reporter) -> None:
        self.tails: dict[str, bool] = {}
        """Channels whose last frames were dropped, or are in doubt (True): nothing shows receivers the hole until a
        beat there does."""
        self._pod_start = own.pod_start
        self._doubt_suffix = own.doubt_suffix
        self._reporter = reporter

    def doubt(self, channels: Iterable[str]) -> None:
        """Have a beat on each of these channels show that what was sent there last may have reached nobody."""
        for channel in channels:
            self._mark_tail(channel, doubt=True)

    def mark(self, channel: str) -> None:
        """Have a beat on a channel, though nothing may be missing there."""
        self._mark_tail(channel, doubt=False)

    def _mark_tail(self, channel: str, *, doubt: bool) -> None:
        if is_queue(channel):
            return  # nobody hears it: a beat there would be a job
        known = self.tails.get(channel)
        if known is not None or len(self.tails) < MAX_CHANNELS:
            self.tails[channel] = doubt or bool(known)

    def dropped(self, frames: Iterable[Frame], cause: str, *, in_publish: bool = False) -> None:
        """Count and report frames that are dropped.

        Args:
            frames: Unsigned.
            cause: See `EventDropped`.
            in_publish: Whether a publish drops them: an observer is notified once it is done.
        """
        report = self._reporter.hold_dropped if in_publish else self._reporter.report_dropped
        counts: dict[str, int] = {}
        for frame in frames:
            channel = frame[0]
            # A beat as well: it may have been the mark behind a hole.
            self._mark_tail(channel, doubt=frame[1].endswith(self._doubt_suffix))
            if not self._is_for_pods(frame):
                counts[channel] = counts.get(channel, 0) + 1
        for channel, count in counts.items():
            report(cause, channel, count)

    def skipped(self, channel: str, *, in_silence: bool) -> None:
        """Count an event that was dropped before it became a frame; `in_silence` without a record."""
        self._mark_tail(channel, doubt=False)
        if in_silence:
            self._reporter.counters.dropped["outbox"] += 1
        else:
            self._reporter.report_dropped("outbox", channel, 1)

    def refused(self, frame: Frame, reason: str, *, is_denied: bool) -> None:
        """Count and report one frame that the broker refused.

        A channel that is denied gets no beat, as that would be refused too: receivers see the hole with the next event
        that the broker takes there. Nor does one whose beat was refused, or beats and refusals would never end.

        Args:
            frame: Unsigned.
            reason: The broker's.
            is_denied: Whether the channel is denied.
        """
        if self._is_for_pods(frame):
            return
        channel, payload = frame[0], frame[1]
        if not is_denied:
            self._mark_tail(channel, doubt=False)
        self._reporter.counters.dropped[REFUSED] += 1
        self._reporter.report(EventDropped(cause=REFUSED, channel=channel, count=1, size=len(payload), reason=reason))

    def _is_for_pods(self, frame: Frame) -> bool:
        return frame[1].startswith(self._pod_start)
