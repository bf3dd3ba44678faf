"""`ClusterNode`: a link's connection to one node of a cluster."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

import hiredis
from backplane_core import Frame, Lost, Refusal, TransportError

from backplane_redis._commands import pack_command
from backplane_redis._connection import LinkConnection
from backplane_redis._limits import Limits
from backplane_redis._pending import PendingReply
from backplane_redis._pipeline import PUSH, PipelinedConnection
from backplane_redis._url import Address, format_address

__all__ = ["ClusterNode", "NodeOwner"]

_ENDPOINT: Final = re.compile(r"[0-9]{1,5} \S*:[0-9]{1,5}")
"""What follows MOVED: a slot, and a node's host, which may be empty, and port."""

_HELLO: Final = pack_command("HELLO")


class NodeOwner(Protocol):
    """What a node reports to its link."""

    def channel_heard(self, node: ClusterNode, channel: str) -> Lost | None:
        """Record that the node delivers a channel from now on; return what was lost of it before, if anything."""
        ...

    def channel_dropped(self, node: ClusterNode, channel: str) -> None:
        """Record that the node no longer delivers a channel, because it was asked or of its own accord."""
        ...

    def node_died(self, node: ClusterNode, reason: str) -> None:
        """Record that the connection is of no further use."""
        ...

    def error(self) -> TransportError:
        """Return why the link is dead."""
        ...


class ClusterNode(PipelinedConnection):
    """One node's connection. It reports what moved away instead of dying of it, and whether the node is a replica.

    Each channel gets a command of its own: a command whose channels lie in several slots is refused, and the names of
    one fleet are spread over all slots.

    A node that became a replica, or that is cut off from the other masters, goes on with shard channels as if nothing
    had happened: it confirms subscriptions, and accepts SPUBLISH for the clients left there. Such a node refuses key
    lookups in the slot, so EXISTS tells whether it still owns it, and only its answers count as proof that the node's
    frames were received. HELLO reports the role, and every user may send it.

    Args:
        connection: Open, and not read from yet.
        address: Where it leads.
        owner: The link that it belongs to.
        limits: What is known of how large a message may be.
    """

    def __init__(self, connection: LinkConnection, address: Address, owner: NodeOwner, limits: Limits) -> None:
        super().__init__(connection, format_address(address), limits)
        self.address = address
        self.is_replica = False
        self.consumed = asyncio.Event()
        """Set once the frames of the last read were taken: the socket may be read again."""
        self.slots: Any = None
        """The last reply to CLUSTER SLOTS."""
        self.proven_at = time.monotonic()
        """When the last EXISTS was written that the node answered as the owner of the slot."""
        self.probed_at = self.proven_at
        self.retired = False
        self._owner = owner
        # The last channel that it was used for: what EXISTS asks about while nothing is subscribed here.
        self._last_channel = ""

    @property
    def has_subscriptions(self) -> bool:
        """Whether any channel is subscribed here."""
        return bool(self._names)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is subscribed here and no reply is due."""
        return not self._names and not self._pending

    async def write_subscribe(self, channels: Sequence[str]) -> PendingReply:
        """Subscribe these channels, and ask for the role: a replica confirms them as well."""
        self._last_channel = channels[-1]
        data = b"".join([pack_command("SSUBSCRIBE", channel) for channel in channels])
        return await self.write("SSUBSCRIBE", [*channels, channels[-1]], data + _HELLO)

    async def write_unsubscribe(self, channels: Sequence[str]) -> PendingReply:
        """Unsubscribe these channels. Only the HELLO behind them is counted: the node may drop them by itself first."""
        data = b"".join([pack_command("SUNSUBSCRIBE", channel) for channel in channels])
        return await self.write("SUNSUBSCRIBE", channels[-1:], data + _HELLO)

    async def write_frames(self, frames: Sequence[Frame], data: bytes) -> PendingReply:
        """Write frames that are packed already."""
        self._last_channel = frames[-1][0]
        return await self.write("SPUBLISH", frames, data)

    async def write_probe(self, now: float) -> PendingReply:
        """Ask, in the stream of its frames, whether it still owns the slot of a channel; `moved` says if not.

        Args:
            now: `time.monotonic()`, in seconds.
        """
        self.probed_at = now
        channel = next(iter(self._names.values()), self._last_channel)
        if not channel:  # not used yet
            return await self.write_hello()
        return await self.write("EXISTS", [channel], pack_command("EXISTS", channel))

    async def write_hello(self) -> PendingReply:
        """Ask for its role, which `is_replica` holds then."""
        return await self.write("HELLO", [""], _HELLO)

    async def write_cluster_slots(self) -> PendingReply:
        """Ask for its view of the cluster, which `slots` holds then."""
        return await self.write("CLUSTER SLOTS", [""], pack_command("CLUSTER", "SLOTS"))

    async def retire(self) -> None:
        """Close a connection that is no longer needed."""
        self.retired = True
        await self.aclose()

    def take(self, replies: Iterator[Any]) -> list[Frame | Lost]:  # noqa: C901 -- calls are what it saves
        frames: list[Frame | Lost] = []
        names = self._names
        for reply in replies:
            if type(reply) is PUSH:
                if reply[0] == b"smessage":
                    name = names.get(reply[1])
                    if name is not None:  # else it was left just before
                        frames.append((name, reply[2]))
                elif reply[0] == b"ssubscribe":
                    channel = names[reply[1]] = reply[1].decode()
                    self._replies += 1
                    if (lost := self._owner.channel_heard(self, channel)) is not None:
                        frames.append(lost)
                elif reply[0] == b"sunsubscribe" and (left := names.pop(reply[1], None)) is not None:
                    self._owner.channel_dropped(self, left)
            elif type(reply) is int:
                self._replies += 1
            elif type(reply) is dict:
                self._replies += 1
                self.is_replica = _is_replica(reply)
            else:
                self.settle()
                if not self._take_rare(reply):
                    break
        self.settle()
        return frames

    def _take_rare(self, reply: Any) -> bool:  # noqa: ANN401 -- whatever Redis sends
        """Take an error, or a view of the cluster; return whether the connection stays live."""
        if self.takes_renewal(reply):
            return True
        pending = self._pending[0] if self._pending else None
        if isinstance(reply, hiredis.ReplyError):
            code, _, rest = str(reply).partition(" ")
            is_moved = code == "MOVED" and _ENDPOINT.fullmatch(rest) is not None
            # ASK comes while keys move, and to EXISTS alone: shard channels stay until the slot itself has moved.
            if pending is None or not (is_moved or (code == "ASK" and pending.command == "EXISTS")):
                if code == "NOPERM" and self._may_not_ask(pending):
                    self._replies += 1
                    return True
                fatal = self.take_refusal(str(reply))
                if fatal is not None:
                    self.die(fatal)
                return fatal is None
            if code == "ASK":
                self._replies += 1
            elif pending.command != "SUNSUBSCRIBE":  # its replies are not counted: moved or left, the channel is gone
                pending.moved.append((pending.operands[self._replies - pending.total], rest))
                if pending.command == "EXISTS":
                    self._last_channel = ""  # another node's by now
                self._replies += 1
            return True
        if type(reply) is list and pending is not None and pending.command == "CLUSTER SLOTS":
            self.slots = reply
            self._replies += 1
            return True
        self.die(self.nonsense)
        return False

    def _may_not_ask(self, pending: PendingReply | None) -> bool:
        """Return whether this answers a question about a channel that was denied, so that its key may be as well."""
        if pending is None or pending.command != "EXISTS" or pending.operands[0] in self._names.values():
            return False
        pending.refused.append(Refusal(index=0, reason="the user may not ask for this channel", is_denied=True))
        self._last_channel = ""
        return True

    def settle(self) -> None:
        for pending in self._pending:
            if pending.total > self._replies:
                break
            if pending.command == "EXISTS" and not pending.moved and not pending.refused:
                self.proven_at = pending.written_at
        super().settle()

    def _hint(self, code: str, command: str, channel: str) -> str:
        if code == "CLUSTERDOWN":
            return ": a master is down and not replaced yet, or this node is cut off from the others"
        if code == "NOPERM" and command == "CLUSTER SLOTS":
            return ": the user lacks +cluster|slots"
        if code == "NOPERM" and command == "EXISTS":
            return f": the user lacks +exists or a key pattern like %R~{channel}"
        return super()._hint(code, command, channel)

    def die(self, reason: str) -> None:
        first = self._dead is None
        super().die(reason)
        if first and not self.retired:
            self._owner.node_died(self, reason)

    def error(self) -> TransportError:
        return super().error() if self.retired else self._owner.error()


def _is_replica(hello: Any) -> bool:  # noqa: ANN401 -- whatever Redis sends
    return bool(hello.get(b"role") != b"master")
