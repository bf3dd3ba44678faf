"""Where the master of a service is, and a connection to it: `find_master`, `connect_to_master`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from backplane_core import AuthenticationError, TransportError

from backplane_redis._connection import LinkConnection
from backplane_redis._opening import Connector
from backplane_redis._sentinel.client import Sentinel
from backplane_redis._sentinel.quorum import NEWS_S, SentinelQuorum
from backplane_redis._url import Address, format_address

__all__ = ["connect_to_master", "find_master"]

NODE_S: Final = 2.0
"""How long a master may take to be connected to: one that froze will soon be replaced, so ask again."""

LAST_WORD_S: Final = 0.05
"""How long the others are waited for once most sentinels answered: during a failover one knows before the rest."""


async def find_master(sentinels: Sequence[Sentinel], service: str) -> tuple[SentinelQuorum, Address]:
    """Ask all sentinels at once, so that one that is away holds up nobody; return what they say, and the master.

    Raises:
        TransportError: No sentinel answers, or none knows the service.
        AuthenticationError: All refused.
    """
    quorum = SentinelQuorum(len(sentinels), time.monotonic() - NEWS_S)
    failures: list[TransportError] = []

    async def ask(number: int, sentinel: Sentinel) -> None:
        try:
            quorum.record(number, await sentinel.ask(service))
        except TransportError as failure:
            failures.append(failure)

    async with asyncio.TaskGroup() as group:
        asking = {group.create_task(ask(*numbered)) for numbered in enumerate(sentinels)}
        while asking and quorum.answers < quorum.majority:
            _, asking = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        if asking:
            _, asking = await asyncio.wait(asking, timeout=LAST_WORD_S)
        for late in asking:
            late.cancel()
    if not quorum.answers:
        raise _no_answer(failures, service)
    master = quorum.newest
    if master is None:
        # Retryable: a sentinel that an operator is setting up will know it in a moment.
        raise TransportError(f"the sentinels know no service {service!r}: is the URL's name right?")
    quorum.link_to(master)
    return quorum, master


async def connect_to_master(connector: Connector, master: Address, service: str) -> LinkConnection:
    """Return a connection to a node that says itself that it is a master; within `NODE_S`.

    Raises:
        TransportError: It can't be reached, or is a replica.
        AuthenticationError: It refused the credentials.
    """
    where, peer = format_address(master), f"the master of {service!r}"
    try:
        async with asyncio.timeout(NODE_S):
            connection = await connector.open(master, peer=peer)
    except TimeoutError:
        failure = TransportError(f"can't connect to {peer} at {where}: no answer within {NODE_S:g} s")
    else:
        if not connection.greeting.is_replica:
            return connection
        await connection.disconnect()
        failure = TransportError(f"{peer} at {where} is a replica now; the sentinels don't know its successor yet")
    raise failure  # out here, without `__context__`


def _no_answer(failures: Sequence[TransportError], service: str) -> TransportError:
    reasons = "; ".join([str(failure) for failure in failures])
    message = f"no sentinel answers for {service!r}: {reasons}"
    # Credentials that one refuses are wrong for all, most likely; if the others were only away, trying again shows.
    if failures and all(isinstance(failure, AuthenticationError) for failure in failures):
        return AuthenticationError(f"{message}; sentinels have credentials of their own, see sentinel_kwargs")
    return TransportError(message, retryable=any(failure.retryable for failure in failures))
