"""Which node of a cluster serves which slots: `ask_for_slots`."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import hiredis
import redis.exceptions as redis_errors
from backplane_core import AuthenticationError, TransportError

from backplane_redis._cluster.slots import SlotMap
from backplane_redis._connection import LinkConnection
from backplane_redis._greeting import Greeting
from backplane_redis._kinds import advise_url
from backplane_redis._limits import Limits
from backplane_redis._opening import Connector
from backplane_redis._refusals import is_temporary, make_refusal
from backplane_redis._url import Address, format_address

__all__ = ["ask_for_slots"]

ASK_S: Final = 1.0
"""What one node may take to answer: a frozen one must leave time to ask another within one attempt."""

OLDEST_MAJOR: Final = 7
"""Sharded pub/sub came with Redis 7.0."""


async def ask_for_slots(connector: Connector, address: Address, limits: Limits) -> tuple[LinkConnection, SlotMap]:
    """Return a connection to a node, and that node's view of the cluster; within `ASK_S`.

    Raises:
        TransportError: It has none; or trying again can't help, since it is no node of a cluster, or too old.
        AuthenticationError: It refused the credentials, or the user may not ask.
    """
    where = format_address(address)
    connection: LinkConnection | None = None
    problem = f"can't connect to Redis at {where}: no answer in time, check address and firewall"
    try:
        async with asyncio.timeout(ASK_S):
            connection = await connector.open(address)
            await limits.ask(connection)
            slots = _read_slots(connection.greeting, await connection.ask("CLUSTER", "SLOTS"), address)
    except BaseException as error:
        if connection is not None:
            await connection.disconnect(nowait=True)
        closed = (redis_errors.RedisError, hiredis.ProtocolError, OSError)
        if isinstance(error, closed) and not isinstance(error, TimeoutError):
            problem = f"can't connect to Redis at {where}: it closed the connection"
        elif not isinstance(error, TimeoutError):
            raise
    else:
        return connection, slots
    raise TransportError(problem)  # out here, without `__context__`


def _read_slots(greeting: Greeting, reply: Any, address: Address) -> SlotMap:  # noqa: ANN401 -- whatever Redis sends
    """Return a node's view, if it is a node of a cluster that has sharded pub/sub."""
    where, version = format_address(address), greeting.version
    if greeting.mode == "sentinel":
        raise TransportError(f"can't use Redis at {where}: {advise_url('sentinel')}", retryable=False)
    if greeting.mode != "cluster":
        raise TransportError(
            f"the server at {where} is not in cluster mode: connect with redis:// instead", retryable=False
        )
    major, _, _ = version.partition(".")
    if major.isdecimal() and int(major) < OLDEST_MAJOR:
        raise TransportError(
            f"the server at {where} has version {version}: sharded pub/sub needs Redis or Valkey 7", retryable=False
        )
    if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOPERM"):
        raise AuthenticationError(f"can't ask Redis at {where} for the cluster's slots: the user lacks +cluster|slots")
    if isinstance(reply, hiredis.ReplyError) and is_temporary(str(reply)):
        what = f"can't ask Redis at {where} for the cluster's slots"
        raise make_refusal(what, "CLUSTER SLOTS", str(reply), database=None)
    if isinstance(reply, Exception) or not reply:
        raise TransportError(f"Redis at {where} knows of no node that serves a slot: is the cluster set up?")
    return SlotMap.parse(reply, address)
