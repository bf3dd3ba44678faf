"""A publisher whose events were encoded in the threads that published them: `EncodedPublisher`."""

from __future__ import annotations

from collections.abc import Sequence

from backplane_core._portal.intake import Item
from backplane_core._protocol.exclusion import Exclusion
from backplane_core.errors import ClosedError, EventTooLargeError, OutboxFullError
from backplane_core.publisher import Publisher
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

    # In the loop

    def take(self, item: Item) -> None:
        """Take an event; count it as dropped where that is not possible."""
        targets, data, exclude, marks = item
        try:
            self._states.check_open()
            if marks:
                self._outbound.send_marked(targets, data, exclude, marks)
            else:
                self._outbound.send(targets, data, exclude)
        except ClosedError:
            self._drop("closed")
        except OutboxFullError:
            self._sender.skip(targets)
        except EventTooLargeError:  # the broker's limit came meanwhile
            self._drop("too_large")
        else:
            if self._reporter.held:
                self._reporter.release()
        self._counters.published += 1

    def refused(self, targets: Sequence[Target | Intersection], *, in_silence: bool = False) -> None:
        """Count an event that was dropped for want of room; `in_silence` without a record for the observer."""
        self._counters.published += 1
        self._sender.skip(targets, in_silence=in_silence)

    def _drop(self, cause: str) -> None:
        self._reporter.report_dropped(cause, self._settings.channel, 1)
