"""Asks the other pods, and waits for what comes of it: `Asker` is the simplest form, for a pod without others."""

from __future__ import annotations

import asyncio
from typing import Final

from attrs import define, field

from backplane_core._fleet.members import Members
from backplane_core._fleet.responder import Responder
from backplane_core._fleet.survey import Survey
from backplane_core._outbound.sender import Sender
from backplane_core._protocol.fleet_frame import LEVEL, Answer, Question, Saying, check_answer, encode_saying
from backplane_core._protocol.peers import Peers

__all__ = ["Asker", "BusAsker"]

MAX_PENDING: Final = 1_024
"""Questions of this pod that may wait for answers at once: with the answers to each bounded, so is their memory."""

SETTLING_S: Final = 1.0
"""How long a question waits at least for pods that this one does not know, before their silence means that there are
none. A pod that lives answers within milliseconds."""

CUT_OFF: Final = "this pod is cut off from the others: its link to the broker is down"
NO_ROOM: Final = "the question could not be sent: too much waits for the broker, or it takes no frames of that size"
BUSY: Final = f"not asked: {MAX_PENDING} questions of this pod wait for answers already"


class Asker:
    """Asks this pod alone: in memory there is no other.

    Args:
        origin: Of this pod.
        pod_name: Of this pod.
        responder: Answers for it.
    """

    def __init__(self, origin: str, pod_name: str, responder: Responder) -> None:
        self.origin = origin
        self._pod_name = pod_name
        self._responder = responder

    def name_of(self, origin: str) -> str:
        """Return what people call a pod."""
        return self._pod_name if origin == self.origin else origin

    async def ask(self, question: Question, timeout_s: float) -> Survey:  # noqa: ARG002 -- nobody is waited for
        """Return what all pods answer, this one included, at the latest after `timeout_s` seconds."""
        return self._own_survey(question, Survey(waits_for_unknown=False))

    def _own_survey(self, question: Question, survey: Survey) -> Survey:
        survey.answered(self.origin, self._responder.answer(question, self.origin), 0)
        return survey


@define(eq=False)
class Pending:
    """A question that waits for answers.

    Args:
        survey: What came so far.
        over: Set once nothing else may come.
    """

    survey: Survey
    over: asyncio.Event = field(factory=asyncio.Event, init=False)

    def look(self) -> None:
        """Wake the task that asked, if there is nothing else to wait for."""
        if self.survey.is_over:
            self.over.set()


class BusAsker(Asker):
    """Asks all pods of the fleet.

    Args:
        origin: Of this pod.
        pod_name: Of this pod.
        responder: Answers for this pod.
        members: The other pods.
        peers: Knows their names.
        sender: Takes the questions.
    """

    def __init__(  # noqa: PLR0917 -- one caller
        self, origin: str, pod_name: str, responder: Responder, members: Members, peers: Peers, sender: Sender
    ) -> None:
        super().__init__(origin, pod_name, responder)
        self._members = members
        self._peers = peers
        self._sender = sender
        self._last_id = 0
        self._pending: dict[int, Pending] = {}

    def name_of(self, origin: str) -> str:
        """Return what people call a pod: its name, or its origin if its beats say none."""
        if origin == self.origin:
            return self._pod_name
        return self._peers.name_of(origin) or origin

    async def ask(self, question: Question, timeout_s: float) -> Survey:
        """Return what all pods answer, this one included, at the latest after `timeout_s` seconds."""
        members = self._members
        is_settled = members.is_settled
        survey = self._own_survey(question, Survey.of(members.present(), waits_for_unknown=not is_settled))
        self._last_id = question.id = self._last_id + 1
        if not members.is_listening:
            survey.end(CUT_OFF)
        elif len(self._pending) >= MAX_PENDING:
            survey.end(BUSY)
        elif not survey.is_over:
            if self._sender.say(encode_saying(Saying(LEVEL, ask=question))):
                await self._wait(question.id, survey, timeout_s)
            else:
                survey.end(NO_ROOM)
        if not is_settled and timeout_s >= SETTLING_S and members.is_listening:
            members.surveyed()
        return survey

    async def _wait(self, number: int, survey: Survey, timeout_s: float) -> None:
        pending = self._pending[number] = Pending(survey)
        try:
            async with asyncio.timeout(timeout_s):
                await pending.over.wait()
        except TimeoutError:
            survey.end(f"no answer within {timeout_s:g} s")
        finally:
            del self._pending[number]

    def answered(self, origin: str, answer: Answer, size: int) -> None:
        """Take an answer of another pod; one to no question that waits is nothing to us.

        Raises:
            EnvelopeError: It lists what no pod does.
        """
        pending = self._pending.get(answer.id)
        if pending is not None:
            check_answer(answer)
            pending.survey.answered(origin, answer, size)
            pending.look()

    def left(self, origin: str) -> None:
        """Record that a pod leaves: no question waits for it."""
        for pending in self._pending.values():
            pending.survey.left(origin)
            pending.look()

    def close(self) -> None:
        """Let every task that waits go on with what came so far."""
        for pending in self._pending.values():
            pending.survey.end("this pod was closed")
            pending.look()
