"""Asks the other pods, and waits for what comes of it: `Asker` is the simplest form, for a pod without others."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import msgspec
from attrs import define, field

from backplane_core._fleet.members import Members
from backplane_core._fleet.survey import Survey
from backplane_core._outbound.sender import Sender
from backplane_core._protocol.fleet_frame import (
    LEVEL,
    ORDERS,
    Answer,
    Question,
    Saying,
    check_answer,
    encode_saying,
)
from backplane_core._protocol.frame import decode_terms
from backplane_core._protocol.peers import Peers
from backplane_core._protocol.routing import Routing

__all__ = ["Asker", "BusAsker", "Pending"]

MAX_PENDING: Final = 1_024
"""Questions of this pod that may wait for answers at once: with the answers to each bounded, so is their memory."""

SETTLING_S: Final = 1.0
"""How long a question waits at least for pods that this one does not know, before their silence means that there are
none. A pod that lives answers within milliseconds."""

NO_ROOM: Final = "the question could not be sent: too much waits for the broker, or it takes no frames of that size"
BUSY: Final = f"not asked: {MAX_PENDING} questions of this pod wait for answers already"


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


class Asker:
    """Asks this pod alone: in memory there is no other.

    Args:
        origin: Of this pod.
        pod_name: Of this pod.
    """

    def __init__(self, origin: str, pod_name: str) -> None:
        self.origin = origin
        self._pod_name = pod_name
        self._last_id = 0

    def name_of(self, origin: str) -> str:
        """Return what people call a pod."""
        return self._pod_name if origin == self.origin else origin

    @property
    def is_cut_off(self) -> bool:
        """Whether there may be other pods from which this one is cut off."""
        return False

    def next_number(self) -> int:
        """Return a number for a question that this pod never used before."""
        self._last_id += 1
        return self._last_id

    @contextmanager
    def asking(self, question: Question) -> Generator[Pending]:  # noqa: ARG002 -- nobody is asked
        """Ask the other pods; their answers are taken in the block."""
        yield Pending(Survey(waits_for_unknown=False))

    async def wait(self, pending: Pending, own: Answer, timeout_s: float) -> Survey:  # noqa: ARG002 -- nobody is awaited
        """Return the answers of all pods.

        Args:
            pending: What was asked.
            own: This pod's answer.
            timeout_s: Seconds to wait for the others.
        """
        pending.survey.answered(self.origin, own, 0)
        return pending.survey


class BusAsker(Asker):
    """Asks all pods of the fleet.

    Args:
        origin: Of this pod.
        pod_name: Of this pod.
        members: The other pods.
        peers: Knows their names.
        sender: Takes the questions.
        routing: Knows which targets have a channel of their own.
    """

    def __init__(  # noqa: PLR0917 -- one caller
        self, origin: str, pod_name: str, members: Members, peers: Peers, sender: Sender, routing: Routing
    ) -> None:
        super().__init__(origin, pod_name)
        self._members = members
        self._peers = peers
        self._sender = sender
        self._routing = routing
        self._pending: dict[int, Pending] = {}

    def name_of(self, origin: str) -> str:
        """Return what people call a pod: its name, or its origin if its beats say none."""
        if origin == self.origin:
            return self._pod_name
        return self._peers.name_of(origin) or origin

    @property
    def is_cut_off(self) -> bool:
        """Whether there may be other pods from which this one is cut off."""
        return not self._members.is_listening

    @contextmanager
    def asking(self, question: Question) -> Generator[Pending]:
        """Ask the other pods; their answers are taken in the block."""
        members = self._members
        survey = Survey.of(members.present(), waits_for_unknown=not members.is_settled)
        pending = Pending(survey)
        if self.is_cut_off:
            survey.cut_off()
        elif len(self._pending) >= MAX_PENDING:
            survey.end(BUSY)
        elif not survey.is_over or question.what in ORDERS:  # a pod may have started in this moment
            self._pending[question.id] = pending
            if not self._send(question):
                survey.end(NO_ROOM)
        try:
            yield pending
        finally:
            self._pending.pop(question.id, None)

    def _send(self, question: Question) -> bool:
        """Send a question; an order first where it keeps its place among the events of its targets."""
        if question.what in ORDERS:
            by_channel: dict[str, list[msgspec.Raw]] = {}
            for target in decode_terms(question.targets):
                by_channel.setdefault(self._routing.channel((target,)), []).append(msgspec.Raw(target.wire))
            by_channel.pop(self._routing.shared, None)  # the roll call does it there
            for channel, targets in by_channel.items():
                order = msgspec.structs.replace(question, targets=targets)
                if not self._sender.say(encode_saying(Saying(LEVEL, order=order)), channel):
                    return False
        return self._sender.say(encode_saying(Saying(LEVEL, ask=question)))

    async def wait(self, pending: Pending, own: Answer, timeout_s: float) -> Survey:
        """Return the answers of all pods, at the latest after `timeout_s` seconds."""
        survey, members = pending.survey, self._members
        is_settled = members.is_settled
        survey.answered(self.origin, own, 0)
        if not survey.is_over:
            try:
                async with asyncio.timeout(timeout_s):
                    await pending.over.wait()
            except TimeoutError:
                survey.end(f"no answer within {timeout_s:g} s")
                if not is_settled and timeout_s >= SETTLING_S and members.is_listening:
                    members.surveyed()
        return survey

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

    def settled(self) -> None:
        """Record that every pod that lives has been heard: no question waits for others."""
        self._members.surveyed()
        for pending in self._pending.values():
            pending.survey.settled(self._members.present())
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
