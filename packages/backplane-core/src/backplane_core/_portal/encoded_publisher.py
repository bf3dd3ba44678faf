"""A publisher whose events were encoded in the threads that published them: `EncodedPublisher`."""

from __future__ import annotations

from collections.abc import Sequence

from backplane_core._portal.intake import Item, JobItem
from backplane_core._protocol.exclusion import Exclusion
from backplane_core._protocol.job_frame import queue_target
from backplane_core.errors import ClosedError, EventTooLargeError, OutboxFullError
from backplane_core.publisher import Publisher
from backplane_core.queues import queue_channel
from backplane_core.target import Intersection, Target

__all__ = ["EncodedPublisher"]


class EncodedPublisher(Publisher):
    """Checks events in the threads that publish them, and takes them in its loop."""

    # From any thread: what these read may be a moment old.

    @property
    def is_crowded(self) -> bool:
        """Whether the broker has as much to confirm as is good."""
        return self._states.now == "live" and self._sender.outbox.over_half

    def has_room(self, messages: int, size: int) -> bool:
        """Return whether the outbox takes so many more events of so many bytes together."""
        outbox = self._sender.outbox
        return outbox.messages + messages <= outbox.max_messages and outbox.bytes + size <= outbox.max_bytes

    def check_size(
        self, targets: Sequence[Target | Intersection], data: bytes, exclude: Exclusion | None, marks: bytes
    ) -> None:
        """Return if the event fits, also through the broker.

        Raises:
            EventTooLargeError: It does not.
        """
        if len(data) > self._settings.max_event_bytes:
            raise EventTooLargeError(len(data), self._settings.max_event_bytes)
        frames = self._sender.frames
        if (
            exclude is not None
            or marks
            or len(targets) != 1
            or type(targets[0]) is not Target
            or len(data) > frames.fits_bytes
        ):
            frames.check_size(targets, data, exclude, marks)

    def check_fits(self, item: Item | JobItem) -> None:
        """Return if an event or a job fits, also through the broker.

        Raises:
            EventTooLargeError: It does not.
        """
        if len(item) == 2:  # noqa: PLR2004 -- a queue and a job
            queue, data = item
            self.check_size((queue_target(queue),), data, None, b"")
        else:
            self.check_size(*item)

    # In the loop

    def take(self, item: Item | JobItem) -> None:
        """Take an event or a job; count it as dropped where that is not possible."""
        try:
            self._states.check_open()
            self._send(item)
        except ClosedError:
            self._drop("closed")
        except OutboxFullError:
            self._skip(item[0], in_silence=False)
        except EventTooLargeError:  # the broker's limit came meanwhile
            self._drop("too_large")
        else:
            if self._reporter.held:
                self._reporter.release()
        self._count(item[0])

    def _send(self, item: Item | JobItem) -> None:
        if len(item) == 2:  # noqa: PLR2004 -- a queue and a job
            if self._desk is not None:
                self._desk.put(*item)
            return
        targets, data, exclude, marks = item
        if not marks:
            self._outbound.send(targets, data, exclude)
            return
        traced = self._traces.begin_encoded(marks)
        self._outbound.send_marked(targets, data, exclude, marks)
        if traced is not None:
            self._traces.end(traced, 0, is_own=True)

    def refused(self, whom: Sequence[Target | Intersection] | str, *, in_silence: bool = False) -> None:
        """Count what was dropped for want of room; `in_silence` without a record for the observer."""
        self._count(whom)
        self._skip(whom, in_silence=in_silence)

    def _count(self, whom: Sequence[Target | Intersection] | str) -> None:
        if isinstance(whom, str):
            self._counters.enqueued += 1
        else:
            self._counters.published += 1

    def _skip(self, whom: Sequence[Target | Intersection] | str, *, in_silence: bool) -> None:
        if not isinstance(whom, str):
            self._sender.skip(whom, in_silence=in_silence)
        elif in_silence:
            self._counters.dropped["outbox"] += 1
        else:
            self._reporter.report_dropped("outbox", queue_channel(self._settings.channel, whom), 1)

    def _drop(self, cause: str) -> None:
        self._reporter.report_dropped(cause, self._settings.channel, 1)
