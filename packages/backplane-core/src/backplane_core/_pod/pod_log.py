"""What a pod on a bus that keeps a log has besides: `PodLog`."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from backplane_core._local.union_event import UnionEvent
from backplane_core._log.mirror import Mirror
from backplane_core._log.pages import LogPages
from backplane_core._log.record import Record
from backplane_core._outbound.frame_builder import FrameBuilder
from backplane_core._protocol.event_ids import Publication
from backplane_core._protocol.exclusion import Exclusion
from backplane_core._protocol.position import EventPlace
from backplane_core._protocol.routing import Routing
from backplane_core.target import Intersection, Target

__all__ = ["PodLog"]


@frozen
class PodLog:
    """The parts, wired.

    Args:
        mirror: Keeps the last entries.
        pages: Reads older ones.
        routing: Knows the lanes of targets.
        frames: Knows the numbers of what was published.
    """

    mirror: Mirror
    pages: LogPages
    routing: Routing
    frames: FrameBuilder

    def published(
        self, targets: Sequence[Target | Intersection], data: bytes, exclude: Exclusion | None, key: str | None
    ) -> Record:
        """Record an event of this pod, which was numbered just now, before its connections get it."""
        mirror, (lane, seq) = self.mirror, self._newest(targets)
        record = Record.of(lane, "", mirror.own, seq, data, targets, exclude, key)
        mirror.publish(record)
        return record

    def placed(
        self, record: Record, targets: Sequence[Target | Intersection], data: bytes, key: str | None
    ) -> tuple[EventPlace, UnionEvent | None]:
        """Return where the event that was recorded just now stands, for connections of this pod that get it.

        Returns:
            Its place; and the event, if that is not the same for all of them.
        """
        place, serving = self.mirror.published_at(record), self.mirror.serving
        if serving is None:
            return place, None
        return place, UnionEvent(data, targets, place, serving.entries, serving.placed(place), key=key)

    def repeated(self, targets: Sequence[Target | Intersection]) -> None:
        """Record that what was numbered just now is an event that this pod's connections have had."""
        lane, seq = self._newest(targets)
        self.mirror.publish(Record(0, lane, "", self.mirror.own, seq))

    def newest(self, targets: Sequence[Target | Intersection]) -> Publication:
        """Return the frame that was numbered last."""
        return Publication(self.mirror.own, self._newest(targets)[1])

    def _newest(self, targets: Sequence[Target | Intersection]) -> tuple[int, int]:
        channel = self.routing.channel(targets)
        return self.mirror.lanes[channel], self.frames.numbering.peek(channel)[0] - 1
