"""What this pod answers to a question: `Responder` reads it off the registry."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import Final

import msgspec

from backplane_core._local.entry import Entry
from backplane_core._local.registry import Registry
from backplane_core._local.states import States
from backplane_core._protocol.fleet_frame import Answer, Listed, PodState, Question
from backplane_core._protocol.frame import decode_terms
from backplane_core._protocol.routing import RoutingName
from backplane_core._runtime.system import System

__all__ = ["Responder"]

MAX_LIST_BYTES: Final = 256 * 1024
"""What the connections, or the targets, in one answer may take: a quarter of what brokers accept by default."""
LISTED_BYTES: Final = 64
"""What one connection in an answer takes besides its id and its info."""


class Responder:
    """Answers for this pod.

    Args:
        registry: Knows its connections.
        states: Knows its state.
        system: The clocks.
        routing: How this pod routes.
    """

    def __init__(self, registry: Registry, states: States, system: System, routing: RoutingName) -> None:
        self._registry = registry
        self._states = states
        self._system = system
        self._routing = routing
        self._since = system.wall()

    def answer(self, question: Question, to: str, max_list_bytes: int = MAX_LIST_BYTES) -> Answer:
        """Return this pod's answer; a pod that does not know the question says so.

        Args:
            question: From this pod or another.
            to: The origin of the pod that asks.
            max_list_bytes: What a list in it may take; the count is right all the same.

        Raises:
            EnvelopeError: A target is none, or there are too many.
        """
        reply = Answer(to, question.id)
        if question.what == "pods":
            reply.pod = self._pod()
        elif question.what == "count":
            reply.count = len(self._entries(question))
        elif question.what == "connections":
            entries = self._entries(question)
            reply.count = len(entries)
            reply.listed = self._listed(entries[: question.limit], max_list_bytes)
        elif question.what == "targets":
            self._list_targets(question, reply, max_list_bytes)
        else:
            reply.no = "unknown"
        return reply

    def _pod(self) -> PodState:
        registry = self._registry
        return PodState(
            since=self._since,
            connections=len(registry.connections),
            targets=registry.target_count,
            routing=self._routing,
            version=_version(),
            state=self._states.now,
        )

    def _entries(self, question: Question) -> Sequence[Entry]:
        return self._registry.resolve(decode_terms(question.targets))

    def _listed(self, entries: Sequence[Entry], max_bytes: int) -> list[Listed]:
        listed: list[Listed] = []
        for entry in entries:
            # An id is at most six times as long, escaped as JSON.
            max_bytes -= LISTED_BYTES + 6 * len(entry.conn_id) + len(entry.info or b"")
            if max_bytes < 0:
                break
            info = msgspec.UNSET if entry.info is None else msgspec.Raw(entry.info)
            listed.append(Listed(entry.conn_id, self._system.wall_at(entry.since), info))
        return listed

    def _list_targets(self, question: Question, reply: Answer, max_bytes: int) -> None:
        entry = self._registry.connections.get(question.conn or "")
        if entry is None or entry.targets is None:
            return
        reply.count = len(entry.targets)
        for target in sorted(entry.targets, key=lambda target: target.wire)[: question.limit]:
            max_bytes -= len(target.wire) + 1
            if max_bytes < 0:
                break
            reply.targets.append(msgspec.Raw(target.wire))


@cache
def _version() -> str:
    """Return the version of this distribution, which is read from a file."""
    return version("backplane-core")
