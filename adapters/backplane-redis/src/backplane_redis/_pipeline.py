"""Commands written without waiting for earlier replies, and their replies, matched by count: `PipelinedConnection`."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import hiredis
from backplane_core import AuthenticationError, Frame, Lost, Refusal, RefusedError, TransportError
from backplane_core.sockets import Inbox
from redis.exceptions import RedisError, ResponseError

from backplane_redis._commands import pack_command
from backplane_redis._connection import LinkConnection
from backplane_redis._credentials import log_refused_renewal
from backplane_redis._error_reply import error_reply
from backplane_redis._limits import LEAST_BYTES, Limits
from backplane_redis._pending import PendingReply
from backplane_redis._refusals import KNOWN_CODES, is_about_rights, is_unknown_command
from backplane_redis._verdicts import grants, is_lacking_command, judge

__all__ = ["CLOSED", "MALFORMED", "PUSH", "PipelinedConnection"]

_READ_BYTES: Final = 1 << 20
"""Takes all that asyncio has buffered in one read: fewer turns of the loop, larger batches."""

PUSH: Any = hiredis.PushNotification

MALFORMED: Final = (hiredis.ProtocolError, LookupError, TypeError, AttributeError)
"""What taking replies raises if they are no RESP3, or if no Redis sends such: the connection is dead then."""

_AUTH: Final = "AUTH"
_OK: Final = (b"OK", "OK")
_PONG: Final = (b"PONG", "PONG")

CLOSED: Final = (
    "the server closed the connection: a restart, CLIENT KILL, an ACL change, or this process read too slowly "
    "for client-output-buffer-limit pubsub"
)
OUT_OF_TURN: Final = "the server sent a reply that makes no sense here"
TORN: Final = (
    f"{OUT_OF_TURN}: Valkey 9.0.0 to 9.1.1 tear messages of 16 KiB and more; "
    "use 9.1.2, or set min-string-size-avoid-copy-reply 1073741824 there"
)


class PipelinedConnection(ABC):
    """One connection for both directions, so that the replies to PUBLISH confirm sends at no extra cost.

    Redis answers commands in order, so a running count of replies is all the bookkeeping there is. Say 7 replies were
    counted when three frames are written: that send is confirmed at 10, a SUBSCRIBE of two channels after it at 12.
    The count stays right when the caller of either was cancelled: its replies come, are counted, and wake nobody.

    Args:
        connection: Open, and not read from yet.
        where: The server's address, for people.
        limits: What is known of how large a message may be.
    """

    def __init__(self, connection: LinkConnection, where: str, limits: Limits) -> None:
        self.lacks_rights: bool = False
        """Whether it died because the user may not send a command at all."""
        self.is_final: bool = False
        """Whether it died because the server does not know a command, so that the next link would as well."""
        self._limits = limits
        self._connection = connection
        self._where = where
        self._stream = connection.stream()
        self._parser = connection.replies
        self._inbox = Inbox()
        # Replies since the connection was opened: asked for, and come.
        self._expected = 0
        self._replies: int = 0
        self._pending: deque[PendingReply] = deque()
        # The channels that are subscribed, by their bytes: a message's channel is looked up, not decoded.
        self._names: dict[bytes, str] = {}
        self._dead: str | None = None
        # Keeps the credentials from expiring.
        self._renewal = None if connection.credentials is None else connection.credentials.keep(self)
        # Whether the last AUTH has its reply.
        self._is_answered = False

    @property
    def nonsense(self) -> str:
        """What it means that the server sent what no server should."""
        return TORN if self._connection.greeting.tears_messages else OUT_OF_TURN

    @property
    def reason(self) -> str:
        """Why it is dead; empty while it lives."""
        return self._dead or ""

    def __repr__(self) -> str:
        state = "live" if self._dead is None else "dead"
        return (
            f"<{type(self).__name__} {self._where} {state}, {len(self._names)} channels, "
            f"{self._expected - self._replies} replies due>"
        )

    async def write(
        self, command: str, operands: Sequence[str | Frame], data: bytes, *, is_one_command: bool = False
    ) -> PendingReply:
        """Write a command, or one per operand, and return what waits for the replies."""
        if not self._connection.is_connected:
            self.die(CLOSED)
        if self._dead is not None:  # redis-py would reconnect silently, without the subscriptions
            raise self.error()
        self._expected += len(operands)
        confirmation = self._inbox.confirmation()
        pending = PendingReply(self._expected, command, operands, confirmation, time.monotonic(), is_one_command)
        # Nothing is awaited between this and the write, so replies are awaited in the order of the commands.
        self._pending.append(pending)
        try:
            await self._connection.send_packed_command(data, check_health=False)
        # The last two come from a transport that has just closed: of uvloop, and of asyncio from CPython 3.12 on.
        except (RedisError, OSError, RuntimeError, AttributeError):
            self.die(CLOSED)
        return pending

    async def wait_confirmed(self, pending: PendingReply) -> None:
        """Return when each operand has its reply; `refused` says which were errors.

        Raises:
            TransportError: The link died first.
            RefusedError: It died of the last refusal.
        """
        if not await pending.confirmation:
            if pending.ends_link:
                raise RefusedError(pending.refused, ends_link=True)
            raise self.error()

    async def renew(self, login: Sequence[str]) -> None:
        """Authenticate again, in the middle of everything: the last reply is counted like any.

        A refusal leaves the link as it is. The server ends it once the old credentials have expired. From 7.2 on, Redis
        leaves out the reply to a refused AUTH that it reads together with an earlier command (redis/redis#15640). So a
        PING follows, whose reply comes in any case: all later ones would be taken for the reply before them otherwise.

        Raises:
            TransportError: The link is dead.
        """
        self._is_answered = False
        await self.wait_confirmed(await self.write(_AUTH, ("",), pack_command(_AUTH, *login) + pack_command("PING")))

    def takes_renewal(self, reply: object) -> bool:
        """Take a reply to what `renew` wrote, and count it if it is the last; return whether it is one.

        Only if the next reply is that one, as a torn message may look like it.
        """
        pending = self.next_pending()
        if pending is None or pending.command != _AUTH:
            return False
        refusal = str(reply) if isinstance(reply, hiredis.ReplyError) else None
        # The user may lack the right to PING, but not to AUTH.
        if not self._is_answered and (reply in _OK if refusal is None else not is_about_rights(refusal)):
            self._is_answered = True
            if refusal is not None:
                log_refused_renewal(self._where, refusal)
            return True
        if refusal is None and reply not in _PONG:
            return False
        if not self._is_answered:
            log_refused_renewal(self._where, None)
        self._replies += 1
        return True

    async def aclose(self) -> None:
        """Close the socket at once; pending calls raise."""
        self.die("it was closed")
        try:
            if self._renewal is not None and self._renewal is not asyncio.current_task():
                await asyncio.wait([self._renewal])
        finally:  # also if this is cancelled in the middle of that
            with suppress(RedisError, OSError):  # dead already, which is what was asked for
                await self._connection.disconnect()

    async def fetch(self) -> Iterator[Any] | None:
        """Wait for bytes and return their replies; None when the connection is gone."""
        with suppress(RedisError, OSError, *MALFORMED):
            if self._stream is None:
                return iter((await self._read_reply(),))
            if data := await self._stream.read(_READ_BYTES):
                return self._parser.parse(data)
        return None

    async def _read_reply(self) -> Any:  # noqa: ANN401 -- whatever Redis sends
        """Return one reply by redis-py's public API, at three times the cost."""
        try:
            return await self._connection.read_response(push_request=True, disconnect_on_error=False)  # pyright: ignore[reportUnknownVariableType] -- redis-py's gap
        except ResponseError as error:
            return error_reply(error)

    def take_read(self, replies: Iterator[Any] | None) -> list[Frame | Lost]:
        """Return the frames of one read; die if there was none, or if it makes no sense."""
        if replies is None:
            self.die(CLOSED)
            return []
        try:
            return self.take(replies)
        except MALFORMED:
            pass
        self.die(self.nonsense)  # out here: callers wake within it, and would chain an error that may quote a payload
        return []

    @abstractmethod
    def take(self, replies: Iterator[Any]) -> list[Frame | Lost]:
        """Return the frames among the replies, and count the confirmations; raise one of `MALFORMED` for nonsense."""

    def settle(self) -> None:
        """Wake the callers whose replies are all there."""
        while self._pending and self._pending[0].total <= self._replies:
            self._pending.popleft().confirmation.set(True)

    def next_pending(self) -> PendingReply | None:
        """Return what the next reply is for."""
        return next((pending for pending in self._pending if pending.total > self._replies), None)

    def take_refusal(self, text: str) -> str | None:
        """Take an error reply; return why the link must die of it, None if it is about a channel or a frame alone.

        The reply is judged by its first words, and not shown: it may quote the payload.
        """
        pending = self.next_pending()
        code = text.partition(" ")[0]
        verdict = None if pending is None else judge(pending.command, text)
        if pending is None or verdict is None:
            self.lacks_rights = is_lacking_command(text)
            self.is_final = pending is not None and is_unknown_command(text)
            if pending is not None and self.is_final:
                return (
                    f"it knows no {pending.command}: is that renamed there, or is it a proxy that carries no pub/sub?"
                )
            return self.describe_refusal(code)
        first = self._replies - pending.total + len(pending.operands)
        places = range(first, len(pending.operands)) if pending.is_one_command else (first,)
        for place in places:
            operand = pending.operands[place]
            channel = operand if isinstance(operand, str) else operand[0]
            if verdict.is_size and not isinstance(operand, str):
                self._limits.refused(len(operand[1]), verdict.max_bytes)
            reason = f"{pending.command} on channel {channel!r} was refused ({verdict.said})"
            if verdict.is_denied:
                reason = f"{reason}: the user lacks the channel, grant {grants(channel)}"
            pending.refused.append(Refusal(index=place, reason=reason, is_denied=verdict.is_denied))
        pending.ends_link = verdict.ends_link
        if verdict.ends_link:
            return pending.refused[-1].reason
        self._replies += len(places)
        return None

    def describe_refusal(self, code: str) -> str:
        """Return what an error reply that is about the whole link means, by its code alone."""
        pending = self.next_pending()
        if code not in KNOWN_CODES:
            return self.nonsense
        if pending is None:
            return f"the server sent {code}"
        operand = pending.operands[self._replies - pending.total]  # counted from the end
        channel = operand if isinstance(operand, str) else operand[0]
        hint = self._hint(code, pending.command, channel)
        return f"{pending.command} on channel {channel!r} was refused ({code}){hint}"

    def _hint(self, code: str, command: str, channel: str) -> str:  # noqa: ARG002 -- subclasses name the channel
        """Return what to do about a refusal, if there is anything to do."""
        return f": the user lacks +{command.lower()}" if code == "NOPERM" else ""

    def die(self, reason: str) -> None:
        """Mark the link dead, for the first reason given, and wake every caller that waits."""
        pending = [*self._pending]
        if self._dead is None:
            self._dead = reason
            if self._renewal is not None:
                self._renewal.cancel()
            if reason is CLOSED and (largest := max([one.largest for one in pending], default=0)):
                self._limits.died(largest)
                if largest >= LEAST_BYTES:
                    self._dead = f"{reason}; or a message of {largest} bytes is over its client-query-buffer-limit"
        self._pending.clear()
        for one in pending:
            one.confirmation.set(False)
        self._inbox.close()

    def error(self) -> TransportError:
        message = f"the link to Redis at {self._where} is dead: {self._dead}"
        return (
            AuthenticationError(message) if self.lacks_rights else TransportError(message, retryable=not self.is_final)
        )
