"""What `backplane.fleet` is: `FleetCalls` makes questions of calls, and answers of what came."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Protocol, TypedDict, TypeVar, Unpack, cast

import msgspec

from backplane_core._fleet.asker import Asker
from backplane_core._fleet.names import missing_pods, names_of
from backplane_core._fleet.own_part import OwnPart
from backplane_core._fleet.presence_calls import PresenceCalls
from backplane_core._fleet.survey import Survey
from backplane_core._local.arguments import check_target, check_timeout, normalize_targets
from backplane_core._local.states import States
from backplane_core._protocol.fleet_frame import (
    MAX_LISTED,
    MAX_REASON_BYTES,
    RECEIPT,
    Answer,
    PodState,
    Question,
    is_close_code,
)
from backplane_core._protocol.frame import decode_target
from backplane_core._protocol.json import decode_event
from backplane_core._runtime.loop_binding import LoopBinding
from backplane_core.answers import Answers
from backplane_core.errors import ConfigurationError, EnvelopeError, InvalidTargetError
from backplane_core.fleet import ConnectionInfo, Fleet, PodInfo, Receipt
from backplane_core.observe import State
from backplane_core.presence import Presence, PresenceChange
from backplane_core.target import Excluded, Intersection, Target, Targets, check_id

__all__ = ["FleetCalls"]

# Callers without a type checker may pass anything.
# pyright: reportUnnecessaryIsInstance=false

T = TypeVar("T")


class MarkedPublishing(Protocol):
    """Publishes events that bear a number."""

    def publish_marked(
        self,
        targets: Sequence[Target | Intersection],
        event: object,
        exclude: Excluded,
        number: int,
        *,
        key: str | None,
        event_id: str | None,
        trace: Mapping[str, str] | None,
    ) -> int:
        """Deliver an event as `publish_nowait` does, under a number by which pods answer how many took it."""
        ...


class QuestionMembers(TypedDict, total=False):
    """What a question is about; see `Question`."""

    targets: list[msgspec.Raw]
    conn: str
    limit: int


class OrderMembers(TypedDict, total=False):
    """What is ordered; see `Question`."""

    target: msgspec.Raw
    code: int
    reason: str


class FleetCalls(Fleet):
    """See `Fleet`.

    Args:
        asker: Asks the other pods.
        own: Answers and follows for this pod.
        publishing: Publishes events that are to be receipted.
        presence: Says who is present.
        loop_binding: The loop that it may be used in.
        states: Whether the backplane is open.
    """

    def __init__(  # noqa: PLR0917 -- one caller
        self,
        asker: Asker,
        own: OwnPart,
        publishing: MarkedPublishing,
        presence: PresenceCalls,
        loop_binding: LoopBinding,
        states: States,
    ) -> None:
        self._asker = asker
        self._own = own
        self._publishing = publishing
        self._presence = presence
        self._loop_binding = loop_binding
        self._states = states

    async def pods(self, *, timeout_s: float = 1.0) -> Answers[PodInfo]:
        """Return the pods of the fleet."""
        survey = await self._ask("pods", timeout_s)
        found = {origin: self._pod(origin, answer.pod) for origin, answer in survey.answers.items() if answer.pod}
        return self._answers(survey, found, len(found))

    async def count(self, target: Targets, *, timeout_s: float = 1.0) -> Answers[int]:
        """Return how many connections a target has."""
        survey = await self._ask("count", timeout_s, targets=_wires(target))
        return self._counts(survey)

    async def connections(
        self, target: Targets, *, limit: int = 1_000, timeout_s: float = 1.0
    ) -> Answers[tuple[ConnectionInfo, ...]]:
        """Return the connections of a target."""
        if type(limit) is not int or not 0 < limit <= MAX_LISTED:
            raise ConfigurationError(f"limit={limit!r} is not allowed: a whole number from 1 to {MAX_LISTED}")
        survey = await self._ask("connections", timeout_s, targets=_wires(target), limit=limit)
        total = sum([answer.count for answer in survey.answers.values()])
        found: dict[str, tuple[ConnectionInfo, ...]] = {}
        for origin, answer in survey.answers.items():
            found[origin] = self._connections(origin, answer, limit)
            limit -= len(found[origin])
        return self._answers(survey, found, total)

    async def targets(self, conn_id: str, *, timeout_s: float = 1.0) -> Answers[frozenset[Target]]:
        """Return the targets of a connection."""
        survey = await self._ask("targets", timeout_s, conn=check_id(conn_id, "conn_id"), limit=MAX_LISTED)
        total = sum([answer.count for answer in survey.answers.values()])
        found = {
            origin: frozenset([decode_target(bytes(raw)) for raw in answer.targets])
            for origin, answer in survey.answers.items()
        }
        return self._answers(survey, found, total)

    async def associate(self, whom: Targets, target: Target, *, timeout_s: float = 1.0) -> Answers[int]:
        """Add a target to every connection of `whom`, on every pod."""
        survey = await self._order("associate", whom, timeout_s, target=_own_target(target))
        return self._counts(survey)

    async def dissociate(self, whom: Targets, target: Target, *, timeout_s: float = 1.0) -> Answers[int]:
        """Remove a target from every connection of `whom`, on every pod."""
        survey = await self._order("dissociate", whom, timeout_s, target=_own_target(target))
        return self._counts(survey)

    async def close(self, whom: Targets, *, code: int = 4000, reason: str = "", timeout_s: float = 1.0) -> Answers[int]:
        """Close every connection of `whom`, on every pod."""
        if type(code) is not int or not is_close_code(code):
            raise ConfigurationError(f"code={code!r} is not allowed: a WebSocket close code, 1000 or 3000 to 4999")
        if not _is_reason(reason):
            raise ConfigurationError(f"reason is not allowed: text of at most {MAX_REASON_BYTES} bytes of UTF-8")
        return self._counts(await self._order("close", whom, timeout_s, code=code, reason=reason))

    async def publish(
        self,
        target: Targets,
        event: object,
        *,
        exclude: Excluded = (),
        key: str | None = None,
        event_id: str | None = None,
        trace: Mapping[str, str] | None = None,
        timeout_s: float = 1.0,
    ) -> Receipt:
        """Deliver an event as `publish` does, and return how many connections took it."""
        self._check(timeout_s)
        targets = normalize_targets(target)
        question = Question(self._asker.next_number(), RECEIPT, targets=_wires(targets))
        local = self._publishing.publish_marked(
            targets, event, exclude, question.id, key=key, event_id=event_id, trace=trace
        )
        with self._asker.asking(question) as pending:
            own = Answer(self._asker.origin, question.id, count=local)
            counts = self._counts(await self._asker.wait(pending, own, timeout_s))
        return Receipt(local=local, by_pod=counts.by_pod, missing=counts.missing, total=counts.total)

    async def presence(self, target: Target, *, timeout_s: float = 1.0) -> Presence:
        """Return who is present in a target."""
        return await self._presence.presence(target, timeout_s)

    def watch(self, target: Target) -> AsyncGenerator[PresenceChange]:
        """Yield who is present in a target, and what changes."""
        return self._presence.watch(target)

    async def _order(self, what: str, whom: Targets, timeout_s: float, **members: Unpack[OrderMembers]) -> Survey:
        self._check(timeout_s)
        targets = normalize_targets(whom)
        order = Question(self._asker.next_number(), what, targets=_wires(targets), **members)
        with self._asker.asking(order) as pending:
            own = Answer(self._asker.origin, order.id, count=await self._own.follow(order, targets))
            survey = await self._asker.wait(pending, own, timeout_s)
        if what == "associate" and own.count:
            await self._own.confirm(order, timeout_s)
        return survey

    def _counts(self, survey: Survey) -> Answers[int]:
        found = {origin: answer.count for origin, answer in survey.answers.items()}
        return self._answers(survey, found, sum(found.values()))

    async def _ask(self, what: str, timeout_s: float, **members: Unpack[QuestionMembers]) -> Survey:
        self._check(timeout_s)
        question = Question(self._asker.next_number(), what, **members)
        with self._asker.asking(question) as pending:
            own = self._own.answer(question, self._asker.origin)
            return await self._asker.wait(pending, own, timeout_s)

    def _check(self, timeout_s: float) -> None:
        self._loop_binding.check()
        self._states.check_open()
        check_timeout(timeout_s)

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
        names = names_of(self._asker, [*found, *survey.missing])
        by_pod = {names[origin]: answer for origin, answer in found.items()}
        return Answers(by_pod=by_pod, missing=missing_pods(names, survey.missing), total=total)


def _wires(target: Targets) -> list[msgspec.Raw]:
    return [msgspec.Raw(target.wire) for target in normalize_targets(target)]


def _own_target(target: Target) -> msgspec.Raw:
    check_target(target)
    if target.kind in {"connection", "everyone"}:
        raise InvalidTargetError("each connection has such a target by itself: associate another")
    return msgspec.Raw(target.wire)


def _is_reason(reason: object) -> bool:
    try:
        return isinstance(reason, str) and len(reason.encode()) <= MAX_REASON_BYTES
    except UnicodeEncodeError:
        return False


def _value(info: msgspec.Raw | msgspec.UnsetType) -> object:
    """Return what a host said of a connection; None if nothing, or if it has no Python value."""
    try:
        return None if isinstance(info, msgspec.UnsetType) else decode_event(bytes(info))
    except EnvelopeError:
        return None
