"""From the reader to what it concerns: who is there, questions and orders of others, and answers to ours."""

from __future__ import annotations

from typing import Final

from backplane_core._fleet.asker import BusAsker
from backplane_core._fleet.greeting import Greeting
from backplane_core._fleet.members import Members
from backplane_core._fleet.responder import MAX_LIST_BYTES, Responder
from backplane_core._fleet.roll_calls import RollCalls
from backplane_core._outbound.sender import Sender
from backplane_core._presence.driver import PresenceDriver
from backplane_core._protocol.fleet_frame import (
    LEVEL,
    ORDERS,
    RECEIPT,
    Answer,
    Question,
    Saying,
    check_order,
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
        roll_calls: Follows orders.
        presence: Says and hears who is present.
        shared: The channel of all that it takes.
        greeting: Answers a hello.
        sender: Takes what it says.
        remote_control: Whether it answers, and follows, others.
        hears: Whether it hears anything; a pod that does not is no member.
    """

    def __init__(
        self,
        *,
        members: Members,
        asker: BusAsker,
        responder: Responder,
        roll_calls: RollCalls,
        presence: PresenceDriver,
        shared: str,
        greeting: Greeting,
        sender: Sender,
        remote_control: bool,
        hears: bool,
    ) -> None:
        self._members = members
        self._asker = asker
        self._responder = responder
        self._presence = presence
        self._shared = shared
        self._greeting = greeting
        self._sender = sender
        self._remote_control = remote_control
        self._hears = hears
        self.roll_calls = roll_calls
        """What orders are followed with; the reader lets it work after each frame of a pod."""

    def is_there(self, origin: str) -> bool:
        """Return whether a pod is in the fleet: it was heard and has not left."""
        return self._members.is_there(origin)

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
            self._presence.heard(head.origin, answers=False)
            return
        if saying.order is not None and self._remote_control:
            check_order(saying.order)
            self.roll_calls.ordered(head.origin, saying.order)
        if saying.ask is not None:
            self._asked(saying.ask, head.origin)
        if saying.answer is not None and saying.answer.to == self._asker.origin:
            self._asker.answered(head.origin, saying.answer, len(frame))
        if saying.presence is not None:
            self._presence.take(head.origin, saying.presence)
        self._members.heard(head.origin, saying.level)  # behind what may refuse the frame
        if saying.hello:
            self._greeting.greeted()
        if saying.leaving:
            self._members.left(head.origin)
            self._asker.left(head.origin)
            self._presence.gone(head.origin)
        elif self._members.is_present(head.origin):
            self._presence.heard(head.origin, answers=saying.level >= LEVEL)

    def missed(self, channel: str | None) -> None:
        """Record that frames of a channel (None: of any) are missing."""
        if channel in {None, self._shared}:
            self._presence.missed()

    def _asked(self, question: Question, origin: str) -> None:
        if not self._remote_control:
            self._say(Answer(origin, question.id, no="refused"))
        elif question.what in ORDERS:
            check_order(question)
            self.roll_calls.called(origin, question)
        elif question.what == RECEIPT:
            self.roll_calls.called(origin, question)
        else:
            self._answer(question, origin)

    def _answer(self, question: Question, origin: str) -> None:
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
