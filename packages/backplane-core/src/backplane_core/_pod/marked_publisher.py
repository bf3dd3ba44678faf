"""Publishes for `fleet.publish`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import frozen

from backplane_core._fleet.calls import MarkedPublishing
from backplane_core._pod.publishing import Publishing
from backplane_core.target import Excluded, Intersection, Target

__all__ = ["MarkedPublisher"]


@frozen
class MarkedPublisher(MarkedPublishing):
    """Publishes by a backplane, without a public name there for what is no use alone.

    Args:
        publishing: The backplane.
    """

    _publishing: Publishing

    def publish_marked(
        self,
        targets: Sequence[Target | Intersection],
        event: object,
        exclude: Excluded,
        number: int,
        *,
        key: str | None,
        event_id: str | None,
        trace: Mapping[str, str] | None,
    ) -> int:
        """Deliver an event under a number; return how many connections of this pod took it."""
        return self._publishing._accept(targets, event, exclude, key, event_id, number=number, trace=trace)  # noqa: SLF001 -- of one folder  # pyright: ignore[reportPrivateUsage]
