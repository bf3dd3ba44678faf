"""Whether a link's node is still the one that all pods use, sans-IO: `Standing`."""

from __future__ import annotations

import re
from typing import Any, Final, TypeAlias, cast

from attrs import define, field, frozen
from backplane_core import Proven

from backplane_redis._commands import pack_command
from backplane_redis._greeting import Greeting

__all__ = ["ASK_EVERY_S", "CLUSTER_INFO", "HELLO", "OVERLAP_S", "ROLE", "Question", "Standing", "first_question"]

ASK_EVERY_S: Final = 0.5
"""A node that was not asked for so long is asked behind the next send: with core's beats at the latest."""

OVERLAP_S: Final = 2.0
"""For how long two nodes may both say that they are the primary while one replaces the other: others may have used the
new one since, so gaps begin this much earlier. A longer overlap is not covered."""

NEVER: Final = float("inf")

Answer: TypeAlias = Any
"""Whatever Redis sends."""


@frozen
class Question:
    """A command that a node answers with its role, or its place in a cluster.

    Args:
        command: In words.
        otherwise: What to ask where the user may not ask this; None: then nothing is known.
    """

    command: str
    otherwise: Question | None = None

    @property
    def data(self) -> bytes:
        """The command, as it goes over the wire."""
        return pack_command(*self.command.split())


HELLO: Final = Question("HELLO")
"""Every user may ask this. The answer has the role, and not whether there is a replica."""
ROLE: Final = Question("ROLE", otherwise=HELLO)
CLUSTER_INFO: Final = Question("CLUSTER INFO")

_COUNT: Final = re.compile(rb"\bcluster_(slots_assigned|known_nodes):([0-9]+)")


def first_question(greeting: Greeting) -> Question | None:
    """Return what to ask a node; None: it says nothing of roles, so it has none."""
    if greeting.mode == "cluster":
        return CLUSTER_INFO
    if not greeting.is_resp3 and not greeting.role:
        return ROLE  # it was not asked by HELLO, or knows none
    return ROLE if greeting.role else None


@define
class Standing:
    """What a node answers to the question for its role.

    A primary that was demoted keeps its clients, where an operator or a managed service moves a name to another node.
    It goes on confirming each PUBLISH, and delivers it to nobody but the clients that are left there. Nothing else on
    the connection shows that, so a link asks behind its sends. A node of a cluster may have any role, as classic
    pub/sub reaches all of them; it is asked whether it still belongs to one.

    A server that never had a replica cannot be replaced by one, so nothing is in doubt there, and a gap begins at the
    last thing that was heard. Only ROLE shows that; where the user may not send it, there may be a replica. That none
    is there now proves nothing: it may just have been promoted. So the offset counts too, which stays at 0 until the
    first replica is there.

    The invariant: what was confirmed up to `OVERLAP_S` before the last good answer had reached the node that all pods
    use.

    Example: a link asks at 10.0 and 10.5, and the answers say master. At 10.7 the node is demoted; three events are
    confirmed after that. The answer to the question of 11.0 says replica: the link dies, what waits for a confirmation
    goes to the next node, and those three are in doubt, with all since 8.5.

    Args:
        question: What to ask; None: nothing.
        sure_at: When the last question was written that was answered well; `time.monotonic()`, seconds.
        problem: Why the node can't be used, or not any longer; None: it can.
    """

    question: Question | None
    sure_at: float
    problem: str | None = field(default=None, init=False)
    ask_at: float = field(init=False)
    """From when on it is to be asked."""
    _may_be_replaced: bool = field(init=False)
    _known_nodes: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.ask_at = NEVER if self.question is None else self.sure_at
        self._may_be_replaced = self.question is HELLO

    def asked(self, now: float) -> None:
        """Record that the question was written."""
        self.ask_at = now + ASK_EVERY_S

    def refused(self) -> None:
        """Record that the user may not ask this: ask something else, or nothing from now on."""
        self.question = None if self.question is None else self.question.otherwise
        self.ask_at = NEVER if self.question is None else self.sure_at
        self._may_be_replaced = self.question is not None

    def take(self, reply: Answer, asked_at: float) -> None:
        """Take the answer to a question.

        Args:
            reply: No error.
            asked_at: When the question was written.
        """
        if self.question is CLUSTER_INFO:
            self._take_cluster(reply)
        elif self.question is ROLE:
            self._take_role(reply)
        else:
            self._check_role(is_replica=Greeting.parse(reply).is_replica)
        if self.problem is None:
            self.sure_at = max(self.sure_at, asked_at)

    def proven(self) -> Proven:
        """Return until when the node was certainly the right one; nothing is in doubt where it cannot be replaced."""
        if self.problem is None and not self._may_be_replaced:
            return Proven(received_until=None, replicated_until=None)
        until = self.sure_at - OVERLAP_S
        return Proven(received_until=None, replicated_until=until, deposed=self.problem is not None)

    def _take_role(self, reply: Answer) -> None:
        fields = cast("list[object]", reply if isinstance(reply, list) else [])
        self._check_role(is_replica=fields[:1] in ([b"slave"], [b"replica"]))
        # Once seen, for good: a replica that is cut off from its primary may be promoted all the more.
        self._may_be_replaced |= fields[1:3] != [0, []]

    def _check_role(self, *, is_replica: bool) -> None:
        if is_replica:
            self.problem = "it is a replica: what is published there reaches no pod at the primary"

    def _take_cluster(self, reply: Answer) -> None:
        text = reply.encode() if isinstance(reply, str) else cast("bytes", reply)
        counts = {name: int(count) for name, count in _COUNT.findall(text)}
        known, before = counts[b"known_nodes"], self._known_nodes
        self._known_nodes = known
        self._may_be_replaced |= known > 1
        if not counts[b"slots_assigned"] or known == 1 < before:
            self.problem = "it is in cluster mode and belongs to no cluster: it was taken out of one, or is in none yet"
