"""`Sentinel`: asks one sentinel where the master of a service is."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any, Final

import hiredis
from attrs import define, field
from backplane_core import AuthenticationError, TransportError
from redis.exceptions import RedisError

from backplane_redis._connection import LinkConnection
from backplane_redis._handshake import Refused
from backplane_redis._opening import Connector
from backplane_redis._refusals import is_about_rights
from backplane_redis._sentinel.quorum import Answer
from backplane_redis._url import Address, format_address

__all__ = ["Sentinel"]

ANSWER_S: Final = 1.0
"""How long a sentinel may take: it holds nothing but its own memory, so it answers in a millisecond or not at all."""


@define
class Sentinel:
    """One sentinel; it is connected to when it is asked, and stays so.

    Args:
        connector: Connects to it.
        address: Where it is.
    """

    connector: Connector = field(repr=False)
    address: Address
    _connection: LinkConnection | None = field(default=None, init=False, repr=False)

    async def ask(self, service: str) -> Answer:
        """Return where the master of a service is, as far as this sentinel knows; within `ANSWER_S`.

        Raises:
            TransportError: It can't be reached, does not answer in time, or refuses.
            AuthenticationError: It refuses the credentials, or the user may not ask.

        Cancellation: closes the connection, as the next question would get the answer to this one.
        """
        where = format_address(self.address)
        answer: Answer | None = None
        hung_up: LinkConnection | None = None
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await self._ask(service)
        except TimeoutError:
            failure = TransportError(f"the sentinel at {where} does not answer within {ANSWER_S:g} s")
        except Refused as refused:
            failure = _explain(refused.text, where)
        except (
            RedisError,
            hiredis.ProtocolError,
            OSError,
            ValueError,
            TypeError,
            AttributeError,
        ):  # or its answer makes no sense
            hung_up = self._connection
            failure = TransportError(f"the sentinel at {where} closed the connection, or is none")
        else:
            return answer
        finally:
            if answer is None:
                await self.close()
        if hung_up is not None and (text := await self.connector.describe_stranger(hung_up)) is not None:
            failure = TransportError(f"can't use the sentinel at {where}: {text}", retryable=False)
        raise failure  # out here, without `__context__`

    async def _ask(self, service: str) -> Answer:
        if self._connection is None:
            self._connection = await self.connector.open(self.address, peer="the sentinel")
        asked_at = time.monotonic()
        # Both are needed: the first knows of a failover that is under way, and only the second has the epoch.
        master = await _reply(self._connection, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
        if master is None:
            return Answer(asked_at, None)
        host, port = master
        try:
            details = await _reply(self._connection, "SENTINEL", "MASTER", service)
        except Refused as refused:
            if is_about_rights(refused.text):
                raise
            return Answer(asked_at, None)  # the service was removed in between
        known = dict(zip(details[::2], details[1::2], strict=True))
        # If a failover came in between, the epoch is not that of the first answer.
        same = (known.get(b"ip"), known.get(b"port")) == (host, port)
        return Answer(asked_at, (host.decode(), int(port)), int(known.get(b"config-epoch", b"0")) if same else -1)

    async def close(self) -> None:
        """Close the connection at once; the next question opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(RedisError, OSError):  # closed already, which is what was asked for
                await connection.disconnect()


async def _reply(connection: LinkConnection, *words: str) -> Any:  # noqa: ANN401 -- whatever Redis sends
    reply = await connection.ask(*words)
    if isinstance(reply, hiredis.ReplyError):
        raise Refused(" ".join(words[:2]), str(reply))
    return reply


def _explain(text: str, where: str) -> TransportError:
    """Return what a sentinel's refusal means."""
    code, _, _ = text.partition(" ")
    if code == "NOAUTH":
        return AuthenticationError(f"the sentinel at {where} refuses: its own password is missing")
    if code == "NOPERM":
        return AuthenticationError(
            f"the sentinel at {where} refuses: the user lacks +sentinel|get-master-addr-by-name or +sentinel|master"
        )
    if is_about_rights(text):
        return TransportError(f"there is no sentinel at {where}, but a Redis server: connect with redis://")
    return TransportError(f"the sentinel at {where} refuses to answer")
