"""What `backplane.fleet` is: `FleetCalls` makes questions of calls, and answers of what came."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import TypeVar, cast

import msgspec

from backplane_core._fleet.asker import Asker
from backplane_core._fleet.survey import Survey
from backplane_core._local.arguments import normalize_targets
from backplane_core._local.states import States
from backplane_core._protocol.fleet_frame import MAX_LISTED, Answer, PodState, Question
from backplane_core._protocol.frame import decode_target
from backplane_core._protocol.json import decode_event
from backplane_core._runtime.loop_binding import LoopBinding
from backplane_core.errors import ConfigurationError, EnvelopeError
from backplane_core.fleet import Answers, ConnectionInfo, Fleet, MissingPod, PodInfo
from backplane_core.observe import State
from backplane_core.target import Target, check_id

__all__ = ["FleetCalls"]

# Callers without a type checker may pass anything.
# pyright: reportUnnecessaryIsInstance=false

T = TypeVar("T")


class FleetCalls(Fleet):
    """See `Fleet`.

    Args:
        asker: Asks the pods.
        loop_binding: The loop that it may be used in.
        states: Whether the backplane is open.
    """

    def __init__(self, asker: Asker, loop_binding: LoopBinding, states: States) -> None:
        self._asker = asker
        self._loop_binding = loop_binding
        self._states = states

    async def pods(self, *, timeout_s: float = 1.0) -> Answers[PodInfo]:
        """Return the pods of the fleet."""
        survey = await self._ask(Question(1, "pods"), timeout_s)
        found = {origin: self._pod(origin, answer.pod) for origin, answer in survey.answers.items() if answer.pod}
        return self._answers(survey, found, len(found))

    async def count(self, target: Target | Iterable[Target], *, timeout_s: float = 1.0) -> Answers[int]:
        """Return how many connections a target has."""
        survey = await self._ask(Question(1, "count", targets=_wires(target)), timeout_s)
        found = {origin: answer.count for origin, answer in survey.answers.items()}
        return self._answers(survey, found, sum(found.values()))

    async def connections(
        self, target: Target | Iterable[Target], *, limit: int = 1_000, timeout_s: float = 1.0
    ) -> Answers[tuple[ConnectionInfo, ...]]:
        """Return the connections of a target."""
        if type(limit) is not int or not 0 < limit <= MAX_LISTED:
            raise ConfigurationError(f"limit={limit!r} is not allowed: a whole number from 1 to {MAX_LISTED}")
        question = Question(1, "connections", targets=_wires(target), limit=limit)
        survey = await self._ask(question, timeout_s)
        total = sum([answer.count for answer in survey.answers.values()])
        found: dict[str, tuple[ConnectionInfo, ...]] = {}
        for origin, answer in survey.answers.items():
            found[origin] = self._connections(origin, answer, limit)
            limit -= len(found[origin])
        return self._answers(survey, found, total)

    async def targets(self, conn_id: str, *, timeout_s: float = 1.0) -> Answers[frozenset[Target]]:
        """Return the targets of a connection."""
        question = Question(1, "targets", conn=check_id(conn_id, "conn_id"), limit=MAX_LISTED)
        survey = await self._ask(question, timeout_s)
        total = sum([answer.count for answer in survey.answers.values()])
        found = {
            origin: frozenset([decode_target(bytes(raw)) for raw in answer.targets])
            for origin, answer in survey.answers.items()
        }
        return self._answers(survey, found, total)

    async def _ask(self, question: Question, timeout_s: float) -> Survey:
        self._loop_binding.check()
        self._states.check_open()
        if not isinstance(timeout_s, (int, float)) or not isfinite(timeout_s) or timeout_s <= 0:
            raise ConfigurationError(f"timeout_s={timeout_s!r} is not allowed: seconds, above 0")
        return await self._asker.ask(question, timeout_s)

    def _pod(self, origin: str, state: PodState) -> PodInfo:
        return PodInfo(
            name=self._asker.name_of(origin),
            origin=origin,
            since=state.since,
            connections=state.connections,
            targets=state.targets,
            routing=state.routing,
            version=state.version,
            state=cast("State", state.state),
        )

    def _connections(self, origin: str, answer: Answer, limit: int) -> tuple[ConnectionInfo, ...]:
        pod = self._asker.name_of(origin)
        return tuple(
            [
                ConnectionInfo(conn_id=one.id, pod=pod, since=one.since, info=_value(one.info))
                for one in answer.listed[:limit]
            ]
        )

    def _answers(self, survey: Survey, found: Mapping[str, T], total: int) -> Answers[T]:
        names = {origin: self._asker.name_of(origin) for origin in (*found, *survey.missing)}
        bearers = Counter(names.values())
        shown = {origin: name if bearers[name] == 1 else f"{name} ({origin})" for origin, name in names.items()}
        missing = [MissingPod(pod=shown[origin], reason=reason) for origin, reason in survey.missing.items()]
        return Answers(
            by_pod={shown[origin]: answer for origin, answer in found.items()}, missing=tuple(missing), total=total
        )


def _wires(target: Target | Iterable[Target]) -> list[msgspec.Raw]:
    return [msgspec.Raw(target.wire) for target in normalize_targets(target)]


def _value(info: msgspec.Raw | msgspec.UnsetType) -> object:
    """Return what a host said of a connection; None if nothing, or if it has no Python value."""
    try:
        return None if isinstance(info, msgspec.UnsetType) else decode_event(bytes(info))
    except EnvelopeError:
        return None
