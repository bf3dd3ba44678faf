"""One question to all pods, and the answers to it: sans-IO, `Survey` knows who is still awaited, and who never will be.

Every member ends in exactly one of two tables, with its answer or with the reason why there is none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from attrs import define, field

from backplane_core._fleet.members import MAX_MEMBERS, Member
from backplane_core._protocol.fleet_frame import LEVEL, Answer
from backplane_core._protocol.reasons import CUT_OFF, OTHER_REASON, REFUSED, TOO_OLD

__all__ = ["OTHERS", "Survey"]

OTHERS: Final = "other pods"
"""Stands for unknown pods in the place of an origin; no origin contains a space."""

MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
"""What the answers to one question may take together: 64 of the largest ones. A bound against forged ones."""

LEFT: Final = "it left"
REASONS: Final = {
    "refused": REFUSED,
    "unknown": "it does not know the question: another version",
    "denied": "the broker does not let it hear the target",
    "large": "its answer is larger than a frame may be: ask for fewer",
}
TOO_MUCH: Final = "the answers to this question are too large: ask for fewer"


@define(eq=False)
class Survey:
    """The answers to one question.

    Args:
        members: The other pods that are known.
        waits_for_unknown: Whether there may be pods that are not known yet: then the survey ends with its time only.
    """

    answers: dict[str, Answer] = field(factory=dict[str, Answer], init=False)
    """By origin, in the order in which they came."""
    missing: dict[str, str] = field(factory=dict[str, str], init=False)
    """By origin, why there is no answer."""
    _waits_for_unknown: bool = field(kw_only=True, alias="waits_for_unknown")
    _awaited: dict[str, None] = field(factory=dict[str, None], init=False)
    _bytes: int = field(default=0, init=False)

    @classmethod
    def of(cls, members: Iterable[Member], *, waits_for_unknown: bool) -> Survey:
        """Return a survey of these; those that can't answer are missing from the start."""
        survey = cls(waits_for_unknown=waits_for_unknown)
        for member in members:
            survey._await(member)
        return survey

    def _await(self, member: Member) -> None:
        if member.level is None or member.level < LEVEL:
            self.missing[member.origin] = TOO_OLD
        else:
            self._awaited[member.origin] = None

    def answered(self, origin: str, answer: Answer, size: int) -> None:
        """Take an answer: the first of each pod, also of one that is not awaited, if there is room.

        Args:
            origin: Of the pod that answers.
            answer: Its answer, or its refusal.
            size: Bytes of the frame.
        """
        if origin in self.answers or len(self.answers) + len(self.missing) >= MAX_MEMBERS:
            return
        self._awaited.pop(origin, None)
        self._bytes += size
        if answer.no is not None:
            self.missing[origin] = REASONS.get(answer.no, OTHER_REASON)
        elif self._bytes > MAX_ANSWER_BYTES:
            self.missing[origin] = TOO_MUCH
        else:
            self.missing.pop(origin, None)
            self.answers[origin] = answer

    def settled(self, members: Iterable[Member]) -> None:
        """Record that every pod that lives has been heard: only those that are known by now are waited for.

        Args:
            members: The other pods that are known.
        """
        self._waits_for_unknown = False
        for member in members:
            if member.origin not in self.answers and member.origin not in self.missing:
                self._await(member)

    def left(self, origin: str) -> None:
        """Record that a pod leaves: its connections end, and it is not waited for."""
        if origin in self._awaited:
            del self._awaited[origin]
            self.missing[origin] = LEFT

    @property
    def is_over(self) -> bool:
        """Whether everything has come that may."""
        return not self._awaited and not self._waits_for_unknown

    def cut_off(self) -> None:
        """Wait for no pod, since this one is cut off; count other pods as missing, even if none is known."""
        if not self._awaited:
            self.missing[OTHERS] = CUT_OFF
        self.end(CUT_OFF)

    def end(self, reason: str) -> None:
        """Wait for nobody else.

        Args:
            reason: Why those that were awaited are missing, for people.
        """
        self.missing |= dict.fromkeys(self._awaited, reason)
        self._awaited.clear()
        self._waits_for_unknown = False
