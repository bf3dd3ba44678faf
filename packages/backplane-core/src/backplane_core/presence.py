"""Those who are present in a target, on all pods: what `fleet.presence` returns, and what `fleet.watch` yields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from attrs import frozen

from backplane_core.answers import Answers, MissingPod

__all__ = ["Presence", "PresenceChange", "PresenceJoined", "PresenceLeft", "PresenceSnapshot"]


@frozen(kw_only=True)
class Presence(Answers[Mapping[str, object]]):
    """Those who are present in a target.

    Args:
        present: By key, what is shown of each, on whichever pod it is.
        by_pod: The same for each pod that answered, by its name.
        missing: The members that have not answered.
        total: How many keys are present.
    """

    present: Mapping[str, object]


@frozen(kw_only=True)
class PresenceSnapshot:
    """Those who are present now: begin with this, and forget what was known before.

    Args:
        present: By key, what is shown of each.
        missing: Pods whose connections are not known as they are now, and why; what they said before is in `present`.
        skipped: Whether some changes were not yielded before this: the link was down, frames are missing, or they were
            not read in time. False for the first snapshot.
    """

    present: Mapping[str, object]
    missing: tuple[MissingPod, ...]
    skipped: bool


@frozen
class PresenceJoined:
    """Someone is present from now on; or was already, and what is shown has changed.

    Args:
        key: Who.
        presence: What is shown.
    """

    key: str
    presence: object


@frozen
class PresenceLeft:
    """Someone is no longer present, on any pod.

    Args:
        key: Who.
    """

    key: str


PresenceChange: TypeAlias = PresenceSnapshot | PresenceJoined | PresenceLeft
"""What `fleet.watch` yields."""
