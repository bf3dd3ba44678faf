"""The events of the check, and who should get them: `CLIENTS`, and lists of `Said`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from attrs import frozen

from backplane_server._demo.stage import PODS

__all__ = ["BOB", "CLIENTS", "IN_OUTAGE", "JOB", "PLAIN", "STEPS", "WHILE_AWAY", "Held", "Said"]

A, B = PODS


@frozen
class Held:
    """A client of a pod.

    Args:
        pod: The pod that it connects to.
        targets: The targets whose events it gets.
    """

    pod: str
    targets: Sequence[str]

    def gets(self, target: str) -> bool:
        """Return whether it should get an event to a target."""
        return target == "everyone" or target in self.targets


@frozen
class Said:
    """An event that is published.

    Args:
        by: The pod that publishes it.
        target: Who should get it.
        text: Its text, by which it is recognized.
    """

    by: str
    target: str
    text: str


BOB: Final = "bob's laptop"
CLIENTS: Final[Mapping[str, Held]] = {
    "ann's phone": Held(A, ("user:ann",)),
    "ann's laptop": Held(B, ("user:ann", "room:1")),
    BOB: Held(B, ("user:bob",)),
    "cleo's phone": Held(A, ("user:cleo", "room:1")),
}
"""The clients by name. Each event below has a receiver on the other pod, and someone who must not get it."""

PLAIN: Final = (
    Said(A, "user:bob", "from pod-a to a user on pod-b"),
    Said(B, "user:ann", "from pod-b to a user on both"),
    Said(A, "room:1", "from pod-a to a room on both"),
    Said(B, "everyone", "from pod-b to everyone"),
    Said(A, "user:nobody", "from pod-a to a user without a socket"),
)
IN_OUTAGE: Final = (
    Said(A, "user:bob", "from pod-a to pod-b while the broker was dead"),
    Said(B, "room:1", "from pod-b to a room while the broker was dead"),
)
WHILE_AWAY: Final = (
    Said(A, "user:bob", "one, while bob was away"),
    Said(B, "user:bob", "two, while bob was away"),
)

JOB: Final = "user:ann"
"""The target that the job's progress is published to."""
STEPS: Final = 10
"""The number of the job's events."""
