"""What pods answer to one question: `Answers`, of which some may be missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from attrs import frozen

__all__ = ["Answers", "MissingPod"]

T = TypeVar("T")


@frozen(kw_only=True)
class MissingPod:
    """A pod that is a member of the fleet, and has not answered.

    Args:
        pod: Its name, or its origin if it has none; `other pods` if this pod is cut off and knows no other pod.
        reason: Why there is no answer, for people.
    """

    pod: str
    reason: str


@frozen(kw_only=True)
class Answers(Generic[T]):
    """What the pods answered to one question, and which of them did not.

    Args:
        by_pod: Each pod's answer, by its name. Where two have the same name, their origins stand behind it.
        missing: The members that have not answered.
        total: What all answers come to, see the question.
    """

    by_pod: Mapping[str, T]
    missing: tuple[MissingPod, ...]
    total: int

    @property
    def complete(self) -> bool:
        """Whether every member that this pod knows has answered. False while this pod is cut off from the others."""
        return not self.missing
