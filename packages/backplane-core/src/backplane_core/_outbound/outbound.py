"""What a publish needs from the way to other pods: `Outbound` is the simplest form, for a pod without others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from backplane_core.target import Target

__all__ = ["Outbound"]


class Outbound:
    """Takes events for the other pods. In memory there are none."""

    def send(self, targets: Sequence[Target], event: bytes, exclude: Iterable[str]) -> None:
        """Take an event, or raise before anyone has received it."""

    def send_marked(self, targets: Sequence[Target], event: bytes, exclude: Iterable[str], marks: bytes) -> None:
        """Take an event as `send` does, with further members; see `encode_marks`."""
