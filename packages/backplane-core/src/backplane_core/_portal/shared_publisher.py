"""One process's publisher of one URL: `SharedPublisher`, which all `SyncPublisher`s with the same options share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backplane_core._portal.encoded_publisher import EncodedPublisher
from backplane_core._portal.intake import Intake, Item, JobItem
from backplane_core._portal.shared import Shared
from backplane_core.errors import ClosedError, EventTooLargeError
from backplane_core.observe import State, Stats
from backplane_core.options import Settings

__all__ = ["SharedPublisher"]


class SharedPublisher(Shared):
    """A publisher that takes events from any thread; see `Shared`.

    Args:
        url: The broker's.
        options: The publisher's.
        settings: The same, checked.
    """

    def __init__(self, url: str, options: Mapping[str, Any], settings: Settings) -> None:
        super().__init__(url, options)
        self._publisher: EncodedPublisher | None = None
        self._intake = Intake(settings, self)
        self._max_event_bytes = settings.max_event_bytes

    # From any thread

    @property
    def state(self) -> State:
        """The publisher's."""
        return "connecting" if self._publisher is None else self._publisher.state

    def put(self, item: Item | JobItem) -> bool:
        """Accept an event or a job, or return False: it is closed, and another one may be had.

        Raises:
            EventTooLargeError: The event does not fit.
            OutboxFullError: There is no room, and the policy is "raise".
        """
        publisher = self._publisher
        if publisher is not None:
            publisher.check_fits(item)
        elif len(item[1]) > self._max_event_bytes:
            raise EventTooLargeError(len(item[1]), self._max_event_bytes)
        if publisher is not None and self.is_current and not publisher.has_room(1, len(item[1])):
            # An observer that publishes what is dropped would feed itself for ever: so this is counted, and no record.
            publisher.refused(item[0], in_silence=True)
            return True
        if not self._intake.put(item):
            return False
        self._intake.give_time()
        return True

    def stats(self) -> Stats:
        """Return the publisher's counters, with all that was accepted before."""
        portal = self.entered()
        if portal.is_current and self._publisher is not None:
            return self._publisher.stats()
        return portal.run(self._stats())

    # In the portal's loop

    def make(self) -> EncodedPublisher:
        """Make the publisher, which takes at once what came before."""
        self._publisher = publisher = EncodedPublisher(self.url, **self.options)
        self._intake.open(self.entered(), publisher)
        return publisher

    def served(self) -> EncodedPublisher:
        """Return the publisher, with all that was accepted before."""
        if self._publisher is None:  # it was handed over before anything else
            raise ClosedError("the publisher could not start")
        self._intake.serve_all()
        return self._publisher

    async def _stats(self) -> Stats:
        return self.served().stats()
