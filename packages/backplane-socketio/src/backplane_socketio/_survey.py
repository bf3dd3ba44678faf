"""The questions of a server to all others, and the answers that have come: sans-IO."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final, Protocol, cast
from uuid import uuid4

from backplane_core import Receipt

from backplane_socketio.participants import Participants

__all__ = ["ANSWER", "QUESTION", "Survey", "Surveys", "answer_to"]

QUESTION: Final = "participants"
ANSWER: Final = "participants_answer"
"""Methods of messages, which python-socketio's own managers pass over."""

LISTED: Final = 10_000
"""Session ids that one server lists: 250 KB of an answer."""


class Survey:
    """The clients of a room, as far as servers have answered.

    Args:
        host_id: Of the server that asks.
        namespace: The room's namespace.
        room: The room; None: the whole namespace.
        own: The session ids on the server that asks.
    """

    def __init__(self, host_id: str, namespace: str, room: object, own: Iterable[str]) -> None:
        self.id = uuid4().hex
        self.question = {
            "method": QUESTION,
            "host_id": host_id,
            "id": self.id,
            "namespace": namespace,
            "room": room,
        }
        self._sids = set(own)
        self._total = len(self._sids)
        self._answered: list[str] = []
        self._receipt: Receipt | None = None

    def asked(self, receipt: Receipt) -> None:
        """Record which servers got the question."""
        self._receipt = receipt

    def take(self, message: Mapping[str, Any]) -> None:
        """Record an answer; one that is malformed counts as none."""
        sids, total, name = message.get("sids"), message.get("total"), message.get("pod")
        if not isinstance(sids, list) or not isinstance(total, int) or not isinstance(name, str):
            return
        self._answered.append(name)
        self._sids.update([sid for sid in cast("list[object]", sids) if isinstance(sid, str)])
        self._total += total

    @property
    def is_complete(self) -> bool:
        """Whether all that got the question have answered."""
        return self._receipt is not None and len(self._answered) >= self._receipt.total

    def result(self) -> Participants:
        """Return what has come."""
        missing: list[str] = []
        if self._receipt is not None:
            missing += [pod.pod for pod in self._receipt.missing]
            waiting = [name for name, took in self._receipt.by_pod.items() if took]
            for name in self._answered:
                # Where two have the same name, their origins stand behind it.
                for one in waiting:
                    if one == name or one.startswith(f"{name} ("):
                        waiting.remove(one)
                        break
            missing += waiting
        return Participants(sids=frozenset(self._sids), total=self._total, missing=tuple(missing))


class Signal(Protocol):
    """What the one that asked waits for: an event of its loop, or of threads."""

    def set(self) -> None:
        """Let it go on."""
        ...


class Surveys:
    """The surveys of one server that wait for answers."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[Survey, Signal]] = {}

    @contextmanager
    def open(self, survey: Survey, answered: Signal) -> Generator[None]:
        """Take answers until the block ends.

        Args:
            survey: What they belong to.
            answered: Set with each of them.
        """
        self._open[survey.id] = survey, answered
        try:
            yield
        finally:
            del self._open[survey.id]

    def take(self, message: Mapping[str, Any]) -> None:
        """Record an answer; one that nobody waits for is passed over."""
        found = self._open.get(str(message.get("id")))
        if found is not None:
            survey, answered = found
            survey.take(message)
            answered.set()


def answer_to(question: Mapping[str, Any], sids: Iterable[str], pod: str) -> dict[str, Any]:
    """Return a server's answer.

    Args:
        question: What was asked.
        sids: The session ids on this server.
        pod: Its name.
    """
    all_of_them = list(sids)
    return {
        "method": ANSWER,
        "host_id": question.get("host_id"),
        "id": question.get("id"),
        "pod": pod,
        "sids": list(islice(all_of_them, LISTED)),
        "total": len(all_of_them),
    }
