"""Who must not get an event although its target matches: `Exclusion`."""

from __future__ import annotations

from attrs import frozen

from backplane_core.target import Intersection, Target

__all__ = ["Exclusion"]


@frozen
class Exclusion:
    """Connections that must not get an event, on any pod.

    Args:
        ids: Ids of connections.
        targets: Targets: connections that have one of these are left out too.
    """

    ids: tuple[str, ...] = ()
    targets: tuple[Target | Intersection, ...] = ()
