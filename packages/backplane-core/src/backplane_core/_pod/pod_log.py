"""What a pod on a bus that keeps a log has besides: `PodLog`."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from backplane_core._local.union_event import UnionEvent
from backplane_core._log.mirror import Mirror
from backplane_core._log.pages import LogPages
from backplane_core._log.record import Record
from backplane_core._outbound.frame_builder import FrameBuilder
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
    ) -> tuple[EventPlace, UnionEvent | None]:
        """Record an event of this pod, which was numbered just now, before its connections get it.

        Returns:
            Where it stands; and the event, if that is not the same for all of them.
        """
        mirror, channel = self.mirror, self.routing.channel(targets)
        lane, seq = mirror.lanes[channel], self.frames.numbering.peek(channel)[0] - 1
        place = mirror.publish(Record.of(lane, "", mirror.own, seq, data, targets, exclude, key))
        serving = mirror.serving
        if serving is None:
            return place, None
        return place, UnionEvent(data, targets, place, serving.entries, serving.placed(place), key=key)
