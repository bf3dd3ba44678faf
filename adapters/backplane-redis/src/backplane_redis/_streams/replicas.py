"""Where the replicas of a primary are, as it says itself: `ask_for_replicas`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import hiredis
from backplane_core import TransportError
from redis.exceptions import RedisError

from backplane_redis._connection import LinkConnection
from backplane_redis._url import Address

__all__ = ["ask_for_replicas"]

_REPLICA: Final = re.compile(rb"^slave[0-9]+:ip=([^,\s]+),port=([0-9]+)", re.MULTILINE)


async def ask_for_replicas(connection: LinkConnection, where: str) -> Sequence[Address]:
    """Return where the replicas of a primary are; none if the user may not ask.

    Args:
        connection: To the primary.
        where: Its address, for people.

    Raises:
        TransportError: It closed the connection.
    """
    try:
        reply: object = await connection.ask("INFO", "replication")
    except (RedisError, OSError, hiredis.ProtocolError):
        pass
    else:
        found = _REPLICA.findall(reply) if isinstance(reply, bytes) else []
        return [(host.decode(), int(port)) for host, port in found]
    raise TransportError(f"Redis at {where} closed the connection")  # out here, without `__context__`
