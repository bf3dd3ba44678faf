"""From the reader to what it concerns: who is there, questions of others, and answers to ours."""

from __future__ import annotations

from typing import Final

from backplane_core._fleet.asker import BusAsker
from backplane_core._fleet.members import Members
from backplane_core._fleet.responder import MAX_LIST_BYTES, Responder
from backplane_core._outbound.sender import Sender
from backplane_core._protocol.fleet_frame import (
    LEVEL,
    Answer,
    Question,
    Saying,
    decode_saying,
    encode_saying,
)
from backplane_core._protocol.frame import Head

__all__ = ["FleetPost"]

LIST_BYTES: Final = (MAX_LIST_BYTES, MAX_LIST_BYTES // 16)
"""What a list in an answer may take: the second is for brokers that accept small frames only."""


class FleetPost:
    """Takes what other pods say, in its place among the events; and says what this pod has to say by itself.

    Args:
        members: The other pods.
        asker: Takes answers.
        responder: Answers for this pod.
        sender: Takes what it says.
        remote_control: Whether it answers questions of others.
        hears: Whether it hears anything; a pod that does not is no member.
    """

    def __init__(
        self,
        *,
        members: Members,
        asker: BusAsker,
        responder: Responder,
        sender: Sender,
        remote_control: bool,
        hears: bool,
    ) -> None:
        self._members = members
        self._asker = asker
        self._responder = responder
        self._sender = sender
        self._remote_control = remote_control
        self._hears = hears

    def take(self, head: Head, frame: bytes) -> None:
        """Take a beat of another pod, whose number is new.

        Args:
            head: Read already.
            frame: All of it, plain.

        Raises:
            EnvelopeError: It says what no pod does.
        """
        saying = decode_saying(frame)
        if saying is None:
            self._members.heard(head.origin, None)
            return
        if saying.ask is not None:
            self._answer(saying.ask, head.origin)
        if saying.answer is not None and saying.answer.to == self._asker.origin:
            self._asker.answered(head.origin, saying.answer, len(frame))
        self._members.heard(head.origin, saying.level)  # behind what may refuse the frame
        if saying.leaving:
            self._members.left(head.origin)
            self._asker.left(head.origin)

    def _answer(self, question: Question, origin: str) -> None:
        if not self._remote_control:
            self._say(Answer(origin, question.id, no="refused"))
            return
        for max_list_bytes in LIST_BYTES:
            if self._say(self._responder.answer(question, origin, max_list_bytes)):
                return
        self._say(Answer(origin, question.id, no="large"))

    def _say(self, answer: Answer) -> bool:
        """Send an answer; False if it is too large. Where there is no room, it is as lost as in a broker's outage."""
        member = encode_saying(Saying(LEVEL, answer=answer))
        if not self._sender.frames.fits(len(member)):
            return False
        self._sender.say(member)
        return True

    def leave(self) -> None:
        """Say that this pod holds no connections from now on."""
        if self._hears:
            self._sender.say(encode_saying(Saying(LEVEL, leaving=True)))
