"""What a publish needs of the way to other pods: `Outbound` is its simplest form, that of a pod without any."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from backplane_core.target import Target

__all__ = ["Outbound"]


class Outbound:
    """Takes events for the other pods. In memory there are none."""

    def send(self, targets: Sequence[Target], event: bytes, exclude: Iterable[str]) -> None:
        """Take an event, or raise before anyone has got it."""
