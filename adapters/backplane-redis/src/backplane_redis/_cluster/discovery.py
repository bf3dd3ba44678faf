"""Which node of a cluster serves which slots: `ask_for_slots`."""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

import redis.exceptions as redis_errors
from backplane_core import AuthenticationError, TransportError

from backplane_redis._cluster.slots import SlotMap
from backplane_redis._connection import LinkConnection
from backplane_redis._opening import Connector
from backplane_redis._url import Address, format_address

__all__ = ["ask_for_slots"]

ASK_S: Final = 1.0
"""What one node may take to answer: a frozen one must leave time to ask another within one attempt."""

OLDEST_MAJOR: Final = 7
"""Sharded pub/sub came with Redis 7.0."""


async def ask_for_slots(connector: Connector, address: Address) -> tuple[LinkConnection, SlotMap]:
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
            hello = await _ask(connection, "HELLO")
            slots = _read_slots(hello, await _ask(connection, "CLUSTER", "SLOTS"), address)
    except BaseException as error:
        if connection is not None:
            await connection.disconnect(nowait=True)
        if isinstance(error, redis_errors.RedisError | OSError) and not isinstance(error, TimeoutError):
            problem = f"can't connect to Redis at {where}: it closed the connection"
        elif not isinstance(error, TimeoutError):
            raise
    else:
        return connection, slots
    raise TransportError(problem)  # out here, without `__context__`


async def _ask(connection: LinkConnection, *words: str) -> Any:  # noqa: ANN401 -- whatever Redis sends
    """Send a command and return its reply; an error reply too."""
    await connection.send_command(*words, check_health=False)
    try:
        return await connection.read_response()  # pyright: ignore[reportUnknownVariableType] -- redis-py's gap
    except redis_errors.ResponseError as error:
        return error


def _read_slots(hello: Any, reply: Any, address: Address) -> SlotMap:  # noqa: ANN401 -- whatever Redis sends
    """Return a node's view, if it is a node of a cluster that has sharded pub/sub."""
    where = format_address(address)
    known = cast("dict[bytes, bytes]", hello) if isinstance(hello, dict) else {}
    version = known.get(b"version", b"0").decode()
    major, _, _ = version.partition(".")
    if major.isdecimal() and int(major) < OLDEST_MAJOR:
        raise TransportError(
            f"the server at {where} has version {version}: sharded pub/sub needs Redis or Valkey 7", retryable=False
        )
    if known.get(b"mode") != b"cluster":
        raise TransportError(
            f"the server at {where} is not in cluster mode: connect with redis:// instead", retryable=False
        )
    if isinstance(reply, redis_errors.NoPermissionError):
        raise AuthenticationError(f"can't ask Redis at {where} for the cluster's slots: the user lacks +cluster|slots")
    if isinstance(reply, Exception) or not reply:
        raise TransportError(f"Redis at {where} knows of no node that serves a slot: is the cluster set up?")
    return SlotMap.parse(reply, address)
