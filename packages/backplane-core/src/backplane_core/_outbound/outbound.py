"""What a publish needs from the way to other pods: `Outbound` is the simplest form, for a pod without others."""

from __future__ import annotations

from collections.abc import Sequence

from backplane_core._protocol.exclusion import Exclusion
from backplane_core.target import Intersection, Target

__all__ = ["Outbound"]


class Outbound:
    """Takes events for the other pods. In memory there are none."""

    def send(self, targets: Sequence[Target | Intersection], event: bytes, exclude: Exclusion | None) -> None:
        """Take an event, or raise before anyone has received it."""

    def send_marked(
        self, targets: Sequence[Target | Intersection], event: bytes, exclude: Exclusion | None, marks: bytes
    ) -> None:
        """Take an event as `send` does, with further members; see `encode_marks`."""
