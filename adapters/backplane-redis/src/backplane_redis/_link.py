"""`RedisLink`: one live RESP3 connection that publishes, subscribes and receives."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

import hiredis
from attrs import define, field
from backplane_core import Frame, Lost, TransportError
from backplane_core.sockets import Confirmation, Inbox, Tap
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from backplane_redis._connection import LinkConnection

__all__ = ["CLOSED", "MAX_HEADS", "MAX_PAYLOAD_BYTES", "MORE", "PUSH", "TORN", "Gets", "RedisLink", "Wait", "packed"]

# All that asyncio has buffered comes out in one read: fewer turns of the loop, larger batches.
_READ_BYTES: Final = 1 << 20
MAX_HEADS: Final = 4096
MAX_PAYLOAD_BYTES: Final = 512 * 1024 * 1024
"""Redis' proto-max-bulk-len, unless its operator changed it."""
# A sentinel of our own, since False and None are values that a server may send.
MORE: Final = object()
PUSH: Any = hiredis.PushNotification
CLOSED: Final = (
    "the server went away or cut it: a restart, CLIENT KILL, an ACL change, or this process read too slowly "
    "for client-output-buffer-limit pubsub"
)
TORN: Final = (
    "the server answered out of turn: Valkey 9.0.0 to 9.1.1 tear messages from 16 KiB on; "
    "use 9.1.2, or set min-string-size-avoid-copy-reply 1073741824 there"
)


Gets: TypeAlias = Callable[[], Any]
"""Returns one reply after the other, then `MORE`."""


@define(eq=False)
class Wait:
    """Who waits for the replies to what was written at once.

    Args:
        total: The count of replies, since the link was opened, at which it is confirmed.
        command: What was written, once per operand.
        operands: Its channels or frames, one reply each.
        confirmed: Told whether it was.
        written_at: The monotonic clock, when it was handed to the socket.
        moved: Operands that another node serves by now, and which; in a cluster alone.
    """

    total: int
    command: str
    operands: Sequence[str | Frame] = field(repr=False)
    confirmed: Confirmation
    written_at: float
    moved: list[tuple[str | Frame, str]] = field(factory=list[tuple[str | Frame, str]], repr=False)


class RedisLink:
    """One connection for both directions, so that the replies to PUBLISH confirm sends for nothing.

    Redis answers commands in order. So a running count of replies tells what is confirmed, and stays right
    when a waiting caller was cancelled.
    """

    def __init__(self, connection: LinkConnection, where: str) -> None:
        self._connection = connection
        self._where = where
        self._stream = connection.stream()
        self._parser = hiredis.Reader(notEnoughData=MORE)
        self._inbox = Inbox()
        self._expected = 0
        self._confirmed: int = 0
        self._waits: deque[Wait] = deque()
        self._names: dict[bytes, str] = {}
        self._heads: dict[str, bytes] = {}
        self._dead: str | None = None
        # Why it is to die, once what was read with that is handed over.
        self._verdict: str | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._where} {'live' if self._dead is None else 'dead'}>"

    async def subscribe(self, channels: Sequence[str], *, after: str | None = None) -> None:  # noqa: ARG002 -- no log here
        """Return once Redis confirmed every channel."""
        await self._run("SUBSCRIBE", channels, packed("SUBSCRIBE", *channels))

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Return once Redis confirmed that none of the channels is heard any more."""
        await self._run("UNSUBSCRIBE", channels, packed("UNSUBSCRIBE", *channels))

    async def send(self, frames: Sequence[Frame]) -> None:
        """Write all frames in one go; return once Redis answered each PUBLISH.

        Cancellation: while it waits for the replies the link lives on; cut amid the write it is dead.
        """
        heads = self._heads
        parts: list[bytes] = []
        for frame in frames:  # bytes of our own: redis-py's packing would cost more than all the rest
            head = heads.get(frame[0])
            if head is None:
                if len(heads) >= MAX_HEADS:
                    heads.clear()
                head = heads[frame[0]] = b"*3" + packed("PUBLISH", frame[0])[2:] + b"$"
            parts.append(b"%b%d\r\n%b\r\n" % (head, len(frame[1]), frame[1]))
        await self._run("PUBLISH", frames, b"".join(parts))

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        """Yield what arrived in one list; while the caller is busy little more is read."""
        transport = self._connection.transport()
        try:
            if transport is None:
                while self._dead is None:
                    if frames := await self._read():
                        yield frames
            else:
                Tap(transport, self._arrived, self._ended)
                self._inbox.source = transport
                while frames := await self._inbox.take():
                    yield frames
            raise self._error()
        finally:
            self._die("nobody reads it any more")

    async def aclose(self) -> None:
        """Close the socket at once; pending calls raise."""
        self._die("it was closed")
        with suppress(RedisError, OSError):  # dead already, which is what was asked for
            await self._connection.disconnect()

    async def _run(self, command: str, operands: Sequence[str | Frame], data: bytes) -> None:
        """Write a command, or one per operand, and return when each operand has its reply."""
        if operands:  # a bare UNSUBSCRIBE would drop all channels
            await self._confirmed_by(await self._write(command, operands, data))

    async def _write(self, command: str, operands: Sequence[str | Frame], data: bytes) -> Wait:
        """Write a command, or one per operand."""
        if not self._connection.is_connected:
            self._die(CLOSED)
        if self._dead is not None:  # redis-py would connect anew in silence, without the subscriptions
            raise self._error()
        self._expected += len(operands)
        wait = Wait(self._expected, command, operands, self._inbox.answer(), time.monotonic())
        # Nothing is awaited between this and the write: the order of waits is the order of commands.
        self._waits.append(wait)
        try:
            await self._connection.send_packed_command(data, check_health=False)
        # The last two on a transport that has just closed: uvloop, and asyncio from CPython 3.12 on.
        except (RedisError, OSError, RuntimeError, AttributeError):
            self._die(CLOSED)
        return wait

    async def _confirmed_by(self, wait: Wait) -> None:
        """Return when each operand has its reply."""
        if not await wait.confirmed:
            raise self._error()

    def _arrived(self, data: bytes) -> None:
        """Take what was read from the socket: hand over the frames, then settle what was confirmed."""
        if self._dead is not None:
            return
        try:
            self._parser.feed(data)
            frames = self._take(self._parser.gets)
        except hiredis.ProtocolError:
            self._die(CLOSED)
            return
        self._inbox.frames += frames
        self._inbox.added(len(data))
        self._settle()

    def _ended(self) -> None:
        self._die(CLOSED)

    async def _read(self) -> list[Frame | Lost]:
        """Return the frames of one read from the socket, if any; die when it fails."""
        if (gets := await self._fetch()) is not None:
            with suppress(hiredis.ProtocolError):
                frames = self._take(gets)
                self._settle()
                return frames
        self._die(CLOSED)
        return []

    async def _fetch(self) -> Gets | None:
        """Wait for bytes, and return what takes the replies out of them; None when the connection is gone."""
        with suppress(RedisError, OSError, hiredis.ProtocolError):
            if self._stream is None:
                return iter((await self._read_reply(), MORE)).__next__
            if data := await self._stream.read(_READ_BYTES):
                self._parser.feed(data)
                return self._parser.gets
        return None

    async def _read_reply(self) -> Any:  # noqa: ANN401 -- whatever Redis sends
        """Return one reply by redis-py's public API: three times dearer."""
        try:
            return await self._connection.read_response(push_request=True, disconnect_on_error=False)  # pyright: ignore[reportUnknownVariableType] -- redis-py's gap
        except ResponseError as error:
            return hiredis.ReplyError(self._code(error))

    def _code(self, error: ResponseError) -> str:
        """Return the code that redis-py has made an exception of."""
        return "NOPERM" if isinstance(error, NoPermissionError) else "ERR"

    def _take(self, gets: Gets) -> list[Frame | Lost]:
        """Sort replies into frames, returned, and confirmations, counted, until there are no more."""
        frames: list[Frame | Lost] = []
        names, confirmed = self._names, 0
        while (reply := gets()) is not MORE:
            if type(reply) is PUSH:
                if reply[0] == b"message":
                    frames.append((names[reply[1]], reply[2]))
                # Every message lies between these two confirmations: no name needs decoding twice.
                elif reply[0] == b"subscribe":
                    names[reply[1]] = reply[1].decode()
                    confirmed += 1
                elif reply[0] == b"unsubscribe":
                    names.pop(reply[1], None)
                    confirmed += 1
            elif type(reply) is int:
                confirmed += 1
            else:
                self._confirmed += confirmed
                confirmed = 0
                if isinstance(reply, hiredis.ReplyError):
                    self._verdict = self._refusal(str(reply).partition(" ")[0])
                elif self._answers(reply):
                    confirmed = 1
                    continue
                else:  # never told: it may be a payload
                    self._verdict = TORN
                break
        self._confirmed += confirmed
        return frames

    def _answers(self, _reply: object) -> bool:
        """Whether a reply of another kind is what was asked for; here nothing asks for such."""
        return False

    def _settle(self) -> None:
        """Tell those whose replies are all there; then die, if a reply said so."""
        while self._waits and self._waits[0].total <= self._confirmed:
            self._waits.popleft().confirmed.give(True)  # noqa: FBT003 -- it was
        if self._verdict is not None:
            self._die(self._verdict)

    def _at_hand(self) -> Wait | None:
        """Return what the next reply is for."""
        return next((wait for wait in self._waits if wait.total > self._confirmed), None)

    def _refusal(self, code: str) -> str:
        """Return what an error reply means. Only its code is told: the text may quote the payload."""
        wait = self._at_hand()
        if wait is None:
            return f"the server sent {code}"
        operand = wait.operands[self._confirmed - wait.total]  # counted from the end
        channel = operand if isinstance(operand, str) else operand[0]
        hint = self._hint(code, wait.command, channel)
        return f"{wait.command} on channel {channel!r} was refused ({code}){hint}"

    def _hint(self, code: str, command: str, channel: str) -> str:
        """Return what may mend a refusal."""
        return f": the user lacks +{command.lower()} or a channel pattern like &{channel}" if code == "NOPERM" else ""

    def _die(self, reason: str) -> None:
        """Be dead from now on, for the first reason given, and wake all who wait."""
        if self._dead is None:
            self._dead = reason
        waits = [*self._waits]
        self._waits.clear()
        for wait in waits:
            wait.confirmed.give(False)  # noqa: FBT003 -- it was not
        self._inbox.close()

    def _error(self) -> TransportError:
        return TransportError(f"the link to Redis at {self._where} is dead: {self._dead}")


def packed(*words: str) -> bytes:
    """Return a command as it is written."""
    encoded = [word.encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded])
