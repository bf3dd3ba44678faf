"""One connection that is asked and answers, in order: `Session`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import hiredis
from backplane_core import TransportError
from redis.exceptions import RedisError

from backplane_redis._commands import pack_command
from backplane_redis._connection import LinkConnection
from backplane_redis._credentials import log_refused_renewal
from backplane_redis._refusals import is_unknown_command, make_refusal

__all__ = ["RETRYABLE_CODES", "Session", "logger"]

logger: Final = logging.getLogger("backplane")

RETRYABLE_CODES: Final = ("OOM", "MISCONF", "NOREPLICAS")
"""Refusals of every write that end by themselves, once there is memory, disk or a replica: nothing was written."""

_BROKEN: Final = (RedisError, OSError, RuntimeError, AttributeError, hiredis.ProtocolError)
"""What a connection that closes raises; the third and fourth come from a transport that has just closed."""


class Session:
    """Asks a server over one connection. What is asked while another question waits is asked behind it.

    The invariant: each caller gets the replies to its own commands. Replies that a cancelled caller left behind are
    read and dropped before the next one's.

    Args:
        connection: Open, and not read from by anyone else.
        where: The server's address, for people.
    """

    def __init__(self, connection: LinkConnection, where: str) -> None:
        self.where = where
        self._connection = connection
        self._turn = asyncio.Lock()
        # Replies that are still to come.
        self._owed = 0
        self._dead: str | None = None
        # Keeps the credentials from expiring.
        self._renewal = None if connection.credentials is None else connection.credentials.keep(self)

    @property
    def client_id(self) -> int | None:
        """The server's number for this connection; None: it did not say."""
        return self._connection.greeting.client_id

    @property
    def is_dead(self) -> bool:
        """Whether nothing can be asked any longer."""
        return self._dead is not None

    async def ask(self, *commands: bytes) -> list[Any]:
        """Write commands in one go, and return one reply for each, errors too.

        Args:
            commands: As `pack_command` returns them.

        Raises:
            TransportError: The connection is dead.
        """
        async with self._turn:
            if self._dead is None and not self._connection.is_connected:
                self._dead = "the server closed the connection"
            if self._dead is None:
                replies = await self._ask(commands)
                if replies is not None:
                    return replies
        raise self.error()

    async def _ask(self, commands: tuple[bytes, ...]) -> list[Any] | None:
        before = self._owed
        self._owed += len(commands)
        replies: list[Any] = []
        try:
            await self._connection.send_packed_command(b"".join(commands), check_health=False)
            while self._owed:
                found = await self._connection.next_replies(self._owed)
                self._owed -= len(found)
                replies += found
        except _BROKEN:
            self._dead = self._dead or "the server closed the connection"
            return None
        return replies[before:]

    async def renew(self, login: Sequence[str]) -> None:
        """Authenticate again, once what was asked before is answered; a read that waits for entries is one of these.

        A refusal leaves the connection as it is. The server ends it once the old credentials have expired.

        Raises:
            TransportError: The connection is dead.
        """
        [reply] = await self.ask(pack_command("AUTH", *login))
        if isinstance(reply, hiredis.ReplyError):
            log_refused_renewal(self.where, str(reply))

    def error(self) -> TransportError:
        """Return the error of a dead connection."""
        return TransportError(f"the link to Redis at {self.where} is dead: {self._dead or 'the connection was closed'}")

    def refusal(self, command: str, channel: str, text: str) -> TransportError:
        """Return what an error reply to a command on a channel means; nothing of it is shown but its code.

        Args:
            command: What was asked.
            channel: The channel that it is about.
            text: The reply.
        """
        what = f"{command} on {channel!r} was refused by Redis at {self.where}"
        code = text.partition(" ")[0]
        if code == "WRONGTYPE":
            reason = "a key of this name holds no stream: delete it, or take another channel"
            return TransportError(f"{what}: {reason}", retryable=False)
        if code in RETRYABLE_CODES:
            return TransportError(f"{what} ({code}): it takes no writes now")
        if is_unknown_command(text):
            reason = f"it knows no {command}: streams need Redis 7.0 or later, or Valkey, and not a proxy without them"
            return TransportError(f"{what}: {reason}", retryable=False)
        error = make_refusal(what, command, text, database=None)
        if code == "NOPERM":
            root = channel.partition(":@")[0]
            return type(error)(f"{error}, or the keys: grant ~{root} and ~{root}:*", retryable=error.retryable)
        return error

    async def leave(self, reason: str) -> None:
        """Mark the connection dead, and close its socket, which wakes all that wait for a reply."""
        self._dead = self._dead or reason
        with suppress(RedisError, OSError):  # dead already, which is what was asked for
            await self._connection.disconnect(nowait=True)

    async def aclose(self) -> None:
        """Close the socket at once; what is asked raises."""
        self._dead = self._dead or "it was closed"
        try:
            if self._renewal is not None:
                self._renewal.cancel()
                await asyncio.wait([self._renewal])
        finally:  # also if this is cancelled in the middle of that
            await self.leave("it was closed")
