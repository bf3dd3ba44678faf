"""What kind of server a connection leads to, and what to do where it is another than the URL says."""

from __future__ import annotations

import logging
import time
from typing import Final

import hiredis
from backplane_core import TransportError
from redis.exceptions import RedisError

from backplane_redis._connection import LinkConnection
from backplane_redis._refusals import is_temporary, make_refusal
from backplane_redis._standing import CLUSTER_INFO, ROLE, Question, Standing, first_question

__all__ = ["NodeChecker", "advise_url", "check_node"]

_UNANSWERED: Final = (
    "does not say whether it is still in its cluster: grant +cluster|info, or connect with redis-cluster://"
)
_NO_ROLE: Final = "does not say whether it is a primary, so one that is demoted will not be noticed: it knows no ROLE"

logger: Final = logging.getLogger("backplane")


def advise_url(mode: str) -> str:
    """Return which URL a server of this mode wants, as part of a sentence."""
    return {
        "sentinel": "it is a sentinel: connect with redis+sentinel://host:port/SERVICE",
        "cluster": "it is a node of a cluster: connect with redis-cluster://",
    }.get(mode, "it is a server that belongs to no cluster: connect with redis://")


async def check_node(connection: LinkConnection, where: str, question: Question | None) -> Standing:
    """Return what the node says of itself; raise unless pods reach all others there.

    Args:
        connection: Just opened.
        where: Its address, for people.
        question: What to ask it.

    Raises:
        TransportError: It is a sentinel, a replica, or a node that belongs to no cluster; or it closed the connection,
            or can't answer now.
    """
    if connection.greeting.mode == "sentinel":
        raise TransportError(f"can't use Redis at {where}: {advise_url('sentinel')}", retryable=False)
    standing, closed = Standing(question, time.monotonic()), False
    try:
        await _ask(connection, where, standing)
        if standing.problem and not connection.greeting.mode and await _is_in_cluster(connection):
            standing = Standing(CLUSTER_INFO, time.monotonic())
            await _ask(connection, where, standing)
    except (RedisError, OSError, hiredis.ProtocolError):
        closed = True
    problem = "it closed the connection" if closed else standing.problem
    if problem is not None:
        raise TransportError(f"can't use Redis at {where}: {problem}")
    return standing


async def _is_in_cluster(connection: LinkConnection) -> bool:
    """Return whether a server whose HELLO did not say so is a node of a cluster, where a replica is as good as any."""
    return not isinstance(await connection.ask(*CLUSTER_INFO.command.split()), hiredis.ReplyError)


async def _ask(connection: LinkConnection, where: str, standing: Standing) -> None:
    """Have the node answer a question that the user may ask, if there is any.

    A busy Valkey 9 lets a client in, and refuses this first: nothing is learned of the user's rights from that.
    """
    while standing.question is not None:
        asked_at = time.monotonic()
        reply = await connection.ask(*standing.question.command.split())
        if not isinstance(reply, hiredis.ReplyError):
            if standing.question is ROLE and reply[:1] == [b"sentinel"]:
                raise TransportError(f"can't use Redis at {where}: {advise_url('sentinel')}", retryable=False)
            standing.asked(asked_at)
            standing.take(reply, asked_at)
            return
        if is_temporary(str(reply)):
            raise make_refusal(f"can't use Redis at {where}", standing.question.command, str(reply), database=None)
        standing.refused()


class NodeChecker:
    """Checks the nodes of one transport, and asks none what the user may not ask: each refusal stands in ACL LOG."""

    def __init__(self) -> None:
        self._refused: set[Question] = set()

    async def check(self, connection: LinkConnection, where: str) -> Standing:
        """Return what a node says of itself; see `check_node`."""
        wanted = question = first_question(connection.greeting)
        while question in self._refused:
            question = question.otherwise
        standing = await check_node(connection, where, question)
        if standing.question is CLUSTER_INFO:
            return standing  # whatever was asked before
        refused = question
        while refused is not None and refused is not standing.question:
            self._refused.add(refused)
            refused = refused.otherwise
        if question is not None and standing.question is None:
            logger.warning("Redis at %s %s", where, _UNANSWERED if wanted is CLUSTER_INFO else _NO_ROLE)
        return standing
