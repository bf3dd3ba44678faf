"""`ClusterNode`: a link's connection to one node of a cluster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final, Protocol

import hiredis
from backplane_core import Frame, Lost, TransportError
from redis.exceptions import AskError, ClusterDownError, MovedError, ResponseError

from backplane_redis._connection import LinkConnection
from backplane_redis._link import CLOSED, MORE, PUSH, TORN, Gets, RedisLink, Wait, packed
from backplane_redis._url import Address, format_address

__all__ = ["ClusterNode", "NodeOwner"]

_HELLO: Final = packed("HELLO")


class NodeOwner(Protocol):
    """What a node tells its link."""

    def heard(self, node: ClusterNode, channel: str) -> Lost | None:
        """A channel is heard there from now on; return what was lost of it before."""
        ...

    def dropped(self, node: ClusterNode, channel: str) -> None:
        """The node said, perhaps of itself, that a channel is not heard any more."""
        ...

    def node_died(self, node: ClusterNode, reason: str) -> None:
        """The connection is of no more use."""
        ...

    def error(self) -> TransportError:
        """Return why the link is dead."""
        ...


class ClusterNode(RedisLink):
    """One node's connection. It says what moved away instead of dying of it, and whether the node is a replica.

    One command per channel: a command whose channels lie in several slots is refused, and names are spread over slots.

    A node that became a replica, or is cut off from the others, goes on with shard channels as if all were well. A
    look for a key in the slot it refuses: so EXISTS asks whether a node is still in charge, and only its answer counts
    as heard. HELLO tells the role, and any user may send it.

    Args:
        connection: Open.
        address: Where it leads.
        owner: Told of what happens.
    """

    def __init__(self, connection: LinkConnection, address: Address, owner: NodeOwner) -> None:
        super().__init__(connection, format_address(address))
        self.address = address
        self.is_replica = False
        self.taken = asyncio.Event()
        """What was fetched has been taken: more may be read."""
        self.slots: Any = None
        """The last reply to CLUSTER SLOTS."""
        self.heard_until = time.monotonic()
        self.asked_at = self.heard_until
        self.retired = False
        self._owner = owner
        # The last channel that it was used for: what to ask it for while nothing is subscribed here.
        self._last = ""

    @property
    def hears(self) -> bool:
        """Whether it has subscriptions."""
        return bool(self._names)

    @property
    def idle(self) -> bool:
        """Whether nothing is subscribed here and no answer is due."""
        return not self._names and not self._waits

    async def ask_subscribe(self, channels: Sequence[str]) -> Wait:
        """Ask for these channels, and for the role: a replica takes them as well."""
        self._last = channels[-1]
        data = b"".join([packed("SSUBSCRIBE", channel) for channel in channels])
        return await self._write("SSUBSCRIBE", [*channels, channels[-1]], data + _HELLO)

    async def ask_unsubscribe(self, channels: Sequence[str]) -> Wait:
        """Ask to leave these channels. Only the HELLO behind counts: the node may drop them of itself meanwhile."""
        data = b"".join([packed("SUNSUBSCRIBE", channel) for channel in channels])
        return await self._write("SUNSUBSCRIBE", channels[-1:], data + _HELLO)

    async def publish(self, frames: Sequence[Frame], data: bytes) -> Wait:
        """Write frames, packed already."""
        self._last = frames[-1][0]
        return await self._write("SPUBLISH", frames, data)

    async def question(self, now: float) -> Wait:
        """Have it answer, in its stream, whether it is still in charge of a channel's slot; `moved` if not."""
        self.asked_at = now
        channel = next(iter(self._names.values()), self._last)
        if not channel:  # of no use yet
            return await self.ask_role()
        return await self._write("EXISTS", [channel], packed("EXISTS", channel))

    async def ask_role(self) -> Wait:
        """Ask for its role; it stands in `is_replica` then."""
        return await self._write("HELLO", [""], _HELLO)

    async def ask_slots(self) -> Wait:
        """Ask for its view of the cluster; it stands in `slots` then."""
        return await self._write("CLUSTER SLOTS", [""], packed("CLUSTER", "SLOTS"))

    async def confirmed(self, wait: Wait) -> None:
        """Return once all of it was answered.

        Raises:
            TransportError: The link is dead.
        """
        await self._confirmed_by(wait)

    async def fetch(self) -> Gets | None:
        """Wait for bytes; None when the connection is gone."""
        return await self._fetch()

    def take(self, gets: Gets | None) -> list[Frame | Lost]:
        """Return the frames of what was fetched."""
        if gets is not None:
            try:
                return self._take(gets)
            except hiredis.ProtocolError:
                pass
        self._die(CLOSED)
        return []

    def fail(self, reason: str) -> None:
        """Be dead."""
        self._die(reason)

    async def retire(self) -> None:
        """Close a connection that is not needed any more."""
        self.retired = True
        await self.aclose()

    def _take(self, gets: Gets) -> list[Frame | Lost]:
        frames: list[Frame | Lost] = []
        names = self._names
        while (reply := gets()) is not MORE:
            if type(reply) is PUSH:
                if reply[0] == b"smessage":
                    frames.append((names[reply[1]], reply[2]))
                elif reply[0] == b"ssubscribe":
                    channel = names[reply[1]] = reply[1].decode()
                    self._confirmed += 1
                    if (lost := self._owner.heard(self, channel)) is not None:
                        frames.append(lost)
                elif reply[0] == b"sunsubscribe" and (left := names.pop(reply[1], None)) is not None:
                    self._owner.dropped(self, left)
            elif type(reply) is int:
                self._confirmed += 1
            elif type(reply) is dict:
                self._confirmed += 1
                self.is_replica = _says_replica(reply)
            else:
                self._settle()
                if not self._take_rare(reply):
                    break
        self._settle()
        return frames

    def _take_rare(self, reply: Any) -> bool:  # noqa: ANN401 -- whatever Redis sends
        """Take an error, or a view of the cluster; return whether the node lives on."""
        wait = self._waits[0] if self._waits else None
        if isinstance(reply, hiredis.ReplyError):
            code, _, rest = str(reply).partition(" ")
            # ASK while keys move, and to EXISTS alone: shard channels stay until the slot itself has moved.
            if wait is None or not (code == "MOVED" or (code == "ASK" and wait.command == "EXISTS")):
                self._die(self._refusal(code))
                return False
            if code == "ASK":
                self._confirmed += 1
            elif wait.command != "SUNSUBSCRIBE":  # that one is not counted: moved or left, it is not heard
                wait.moved.append((wait.operands[self._confirmed - wait.total], rest))
                if wait.command == "EXISTS":
                    self._last = ""  # not ours to ask for any more
                self._confirmed += 1
            return True
        if type(reply) is list and wait is not None and wait.command == "CLUSTER SLOTS":
            self.slots = reply
            self._confirmed += 1
            return True
        self._die(TORN)
        return False

    def _settle(self) -> None:
        for wait in self._waits:
            if wait.total > self._confirmed:
                break
            if wait.command == "EXISTS" and not wait.moved:
                self.heard_until = wait.written_at
        super()._settle()

    def _code(self, error: ResponseError) -> str:
        if isinstance(error, MovedError):
            moved: Any = error  # untyped
            return f"MOVED {moved.slot_id} {moved.host}:{moved.port}"
        if isinstance(error, AskError):
            return "ASK"
        return "CLUSTERDOWN" if isinstance(error, ClusterDownError) else super()._code(error)

    def _hint(self, code: str, command: str, channel: str) -> str:
        if code == "CLUSTERDOWN":
            return ": a master is down and not replaced yet, or this node is cut off from the others"
        if code == "NOPERM" and command == "CLUSTER SLOTS":
            return ": the user lacks +cluster|slots"
        if code == "NOPERM" and command == "EXISTS":
            return f": the user lacks +exists or a key pattern like %R~{channel}"
        return super()._hint(code, command, channel)

    def _die(self, reason: str) -> None:
        first = self._dead is None
        super()._die(reason)
        if first and not self.retired:
            self._owner.node_died(self, reason)

    def _error(self) -> TransportError:
        return super()._error() if self.retired else self._owner.error()


def _says_replica(hello: Any) -> bool:  # noqa: ANN401 -- whatever Redis sends
    return bool(hello.get(b"role") != b"master")
