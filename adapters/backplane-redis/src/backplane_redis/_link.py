"""`RedisLink`: one live connection to a server that publishes, subscribes and receives."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any, Final

import hiredis
from backplane_core import Frame, Lost, Proven, RefusedError
from backplane_core.sockets import Tap

from backplane_redis._commands import PublishPacker, pack_command
from backplane_redis._connection import LinkConnection
from backplane_redis._limits import Limits
from backplane_redis._pipeline import CLOSED, PUSH, PipelinedConnection
from backplane_redis._refusals import is_about_rights
from backplane_redis._standing import Standing

__all__ = ["RedisLink"]

_ARRAY: Any = list
_PUSHES: Final = frozenset((b"message", b"subscribe", b"unsubscribe"))


class RedisLink(PipelinedConnection):
    """A link to one server, by classic pub/sub: frames, subscriptions and confirmations over one connection.

    Args:
        connection: Open, and not read from yet.
        where: The server's address, for people.
        standing: What the node said of itself.
        limits: What is known of how large a message may be.
    """

    def __init__(self, connection: LinkConnection, where: str, standing: Standing, limits: Limits) -> None:
        super().__init__(connection, where, limits)
        self._standing = standing
        self._packer = PublishPacker("PUBLISH")
        # Why it must die; it does so once the frames that were read together with the reason are handed over.
        self._fatal: str | None = None

    async def subscribe(self, channels: Sequence[str]) -> None:
        """Return once Redis confirmed every channel.

        One that the user may not hear has the whole command refused, which does not say which it is. So each is asked
        for by itself then, all in one go.

        Raises:
            TransportError: The link is dead.
            RefusedError: The user may not hear some of them; all others are confirmed.
        """
        if not channels:
            return
        whole = pack_command("SUBSCRIBE", *channels)
        pending = await self.write("SUBSCRIBE", channels, whole, is_one_command=True)
        await self.wait_confirmed(pending)
        if pending.refused and len(channels) > 1:
            each = b"".join([pack_command("SUBSCRIBE", channel) for channel in channels])
            pending = await self.write("SUBSCRIBE", channels, each)
            await self.wait_confirmed(pending)
        if pending.refused:
            raise RefusedError(pending.refused)

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Return once Redis confirmed that the link no longer hears any of the channels."""
        await self._run("UNSUBSCRIBE", channels, pack_command("UNSUBSCRIBE", *channels))

    async def send(self, frames: Sequence[Frame]) -> None:
        """Write all frames in one go; return once Redis answered each PUBLISH, and for its role if that was due.

        Raises:
            TransportError: The link is dead.
            RefusedError: Redis refused some frames, and took all others; or it died of the last of them.

        Cancellation: the link stays live when cancelled while it waits for replies, and is dead when cancelled in the
        middle of the write.
        """
        if not frames:
            return
        pending = await self.write("PUBLISH", frames, self._packer.pack(frames))
        if pending.written_at >= self._standing.ask_at:
            # Behind the frames: a node that is the primary now was so when it took them.
            await self.ask_standing()
        await self.wait_confirmed(pending)
        if pending.refused:
            raise RefusedError(pending.refused)

    async def ask_standing(self) -> None:
        """Ask the node for its role, and return once it has answered; the link dies of the wrong answer."""
        standing = self._standing
        if standing.question is None:
            return
        pending = await self.write(standing.question.command, ("",), standing.question.data)
        standing.asked(pending.written_at)
        await self.wait_confirmed(pending)

    def proven(self) -> Proven:
        """Return until when the node was certainly the one that all pods use."""
        return self._standing.proven()

    async def receive(self) -> AsyncGenerator[list[Frame | Lost], None]:
        """Yield what arrived, one list per read; while the caller is busy the socket is paused."""
        self.start_reading()
        try:
            if self._inbox.source is None:
                while self._dead is None:
                    if frames := await self._read():
                        yield frames
            else:
                while frames := await self._inbox.take():
                    yield frames
            raise self.error()
        finally:
            self.die("its reader stopped")

    def start_reading(self) -> None:
        """Take what arrives from now on in the socket's callback, where that is possible; otherwise `receive` reads."""
        transport = self._connection.transport()
        if self._inbox.source is None and transport is not None:
            self._inbox.source = Tap(transport, self._arrived, self._ended)

    def take_unknown(self, channel: bytes) -> None:
        """Take a message of a channel that is not subscribed: it was left just before, so ignore it."""

    async def _run(self, command: str, operands: Sequence[str | Frame], data: bytes) -> None:
        """Write a command, or one per operand; return when each operand has its reply."""
        if operands:  # a bare UNSUBSCRIBE would drop all channels
            await self.wait_confirmed(await self.write(command, operands, data))

    def _arrived(self, data: bytes) -> None:
        """Take what was read from the socket: hand over the frames, then wake the callers whose replies came."""
        if self._dead is not None:
            return
        self._inbox.frames += self.take_read(self._parser.parse(data))
        self._inbox.added(len(data))
        self.settle()

    def _ended(self) -> None:
        self.die(CLOSED)

    async def _read(self) -> list[Frame | Lost]:
        """Return the frames of one read from the socket, if any; die when it fails."""
        frames = self.take_read(await self.fetch())
        self.settle()
        return frames

    def take(self, replies: Iterator[Any]) -> list[Frame | Lost]:  # noqa: C901, PLR0912 -- calls are what it saves
        """Return the frames among the replies, and count the confirmations.

        Servers that are only like Redis send pushes as arrays, pushes that nobody asked for, attributes in front of a
        reply, and messages of a channel that was left just before: none of these harms a link.
        """
        frames: list[Frame | Lost] = []
        names, confirmed = self._names, 0
        for reply in replies:
            if type(reply) is PUSH or (type(reply) is _ARRAY and reply and reply[0] in _PUSHES):
                if reply[0] == b"message":
                    name = names.get(reply[1])
                    if name is not None:
                        frames.append((name, reply[2]))
                    else:
                        self.take_unknown(reply[1])
                # Every message of a channel comes between these two confirmations, so each name is decoded once.
                elif reply[0] == b"subscribe":
                    names[reply[1]] = reply[1].decode()
                    confirmed += 1
                elif reply[0] == b"unsubscribe":
                    self._replies += confirmed
                    confirmed = 0
                    if not self._may_leave(names.pop(reply[1], None)):
                        break
                    confirmed = 1
            elif type(reply) is int:
                confirmed += 1
            else:
                self._replies += confirmed
                confirmed = 0
                if self.takes_renewal(reply):
                    continue
                if self._accept_other(reply):
                    confirmed = 1
                elif isinstance(reply, hiredis.ReplyError):
                    self._fatal = self.take_refusal(str(reply))
                    if self._fatal is not None:
                        break
                elif type(reply) is not _ARRAY:  # one is an attribute: about the next reply, and nobody counts it
                    self._fatal = self.nonsense  # not quoted: it may be a payload
                    break
        self._replies += confirmed
        return frames

    def _may_leave(self, channel: str | None) -> bool:
        """Return whether a channel was dropped because it was left; the link dies if the server did it by itself."""
        pending = self.next_pending()
        if pending is None or pending.command != "UNSUBSCRIBE":
            self._fatal = f"the server dropped the subscription of channel {channel!r}, which was not left"
            return False
        return True

    def _accept_other(self, reply: object) -> bool:
        """Take a reply that is no push or number; return whether it answers the question for the node's role.

        Only if the next reply is that one, as a torn message may look like it.
        """
        pending, standing = self.next_pending(), self._standing
        if pending is None or standing.question is None or pending.command != standing.question.command:
            return False
        if not isinstance(reply, hiredis.ReplyError):
            standing.take(reply, pending.written_at)
            return True
        if not is_about_rights(str(reply)):
            return False
        standing.refused()
        return True

    def settle(self) -> None:
        """Wake the callers whose replies are all there; then die, if a reply was fatal."""
        if self._standing.problem is not None:
            # First: what is not confirmed yet is sent again, to the next node.
            self.die(self._standing.problem)
        super().settle()
        if self._fatal is not None:
            self.die(self._fatal)
