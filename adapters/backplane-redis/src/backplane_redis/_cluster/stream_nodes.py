"""Which node has which stream, and a connection to each that is written to: `StreamNodes`."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Final

from backplane_core import TransportError

from backplane_redis._cluster.nodes import CONNECT_S, pause
from backplane_redis._cluster.redirects import NodeSession, Redirected
from backplane_redis._cluster.slots import SlotMap, slot_of
from backplane_redis._commands import pack_command
from backplane_redis._connection import LinkConnection
from backplane_redis._opening import Connector
from backplane_redis._streams.opening import StreamOpener
from backplane_redis._url import Address, format_address

__all__ = ["StreamNodes"]

PING: Final = pack_command("PING")
AT_ONCE: Final = 32
"""Connections that are opened at a time."""
ANSWER_S: Final = 5.0
"""A node that is silent for so long is taken for frozen: longer than a fork or a slow command holds one up."""
_SILENT: Final = "answers nothing: it is frozen, or the network drops packets"


class StreamNodes:
    """The nodes of one link: connected when first needed, and asked for what they serve.

    Args:
        slots: Which node serves what, as far as known.
        connector: Connects to nodes.
        opener: Looks at the settings of each.
    """

    def __init__(self, slots: SlotMap, connector: Connector, opener: StreamOpener) -> None:
        self._slots = slots
        self._connector = connector
        self._opener = opener
        self._sessions: dict[tuple[Address, bool], NodeSession] = {}
        # Where a key is asked for next, which is being moved there.
        self._asking: dict[str, Address] = {}
        self._connecting = asyncio.Lock()
        self._opening = asyncio.Semaphore(AT_ONCE)
        self.death: str | None = None
        """Why no node is asked any longer; None: they are."""

    def __repr__(self) -> str:
        return ", ".join(sorted({session.where for session in self._sessions.values()})) or "no node yet"

    def error(self) -> TransportError:
        """Return why they are dead."""
        return TransportError(f"the link to the streams of the Redis cluster is dead: {self.death}")

    def check_open(self) -> None:
        """Return unless they are dead.

        Raises:
            TransportError: They are.
        """
        if self.death is not None:
            raise self.error()

    async def adopt(self, connection: LinkConnection, address: Address) -> None:
        """Take an open connection to a node; raise if it is dead."""
        session = self._sessions[address, False] = NodeSession(connection, address)
        await self._opener.check(session)

    async def ping(self) -> None:
        """Return if each node that serves a slot, and was connected to, answers.

        Raises:
            TransportError: One is dead, or answers nothing. Core's beats find a frozen node that has a lane, and not
                one that has only queues.
        """
        owners = self._slots.owners
        for session in [*self._sessions.values()]:
            if session.address in owners:
                await self._ping(session)

    async def _ping(self, session: NodeSession) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                await session.ask(PING)
        except TimeoutError:
            raise TransportError(f"{session.where} {_SILENT}") from None

    async def session(self, channel: str, attempt: int) -> NodeSession:
        """Return the connection to the node to ask for a channel.

        Args:
            channel: The channel.
            attempt: How often it was asked for before; `follow` corrected it since, but nodes may disagree for a while.

        Raises:
            TransportError: The node can't be connected to, or none serves the slot.
        """
        await pause(attempt)
        asked = self._asking.pop(channel, None)
        address, is_asking = (self._owner(channel), False) if asked is None else (asked, True)
        session = self._sessions.get((address, is_asking))
        if session is not None:
            return session
        async with self._connecting:
            session = self._sessions.get((address, is_asking))
            if session is None:
                session = await self.connect(address, is_asking=is_asking)
                self._sessions[address, is_asking] = session
                await self._opener.check(session)
        return session

    def follow(self, channel: str, redirected: Redirected) -> None:
        """Record what a node said that refused a channel."""
        code, _, rest = redirected.said.partition(" ")
        if code == "MOVED":
            self._slots.correct(rest, redirected.asked)
        elif code == "ASK":
            self._asking[channel] = self._slots.endpoint(rest, redirected.asked)

    def _owner(self, channel: str) -> Address:
        address = self._slots.owner(slot_of(channel))
        if address is None:
            raise TransportError(f"no node of the Redis cluster serves the slot of stream {channel!r}")
        return address

    async def connect(self, address: Address, *, is_asking: bool) -> NodeSession:
        """Return a connection to a node which is the caller's; raise if it can't be connected to."""
        self.check_open()
        try:
            async with self._opening, asyncio.timeout(CONNECT_S):
                connection = await self._connector.open(address)
        except TimeoutError:
            raise TransportError(f"{format_address(address)} {_SILENT}") from None
        if self.death is not None:  # they died meanwhile, and aclose() is over
            await connection.disconnect(nowait=True)
            raise self.error()
        return NodeSession(connection, address, is_asking=is_asking)

    async def aclose(self) -> None:
        """Close all sockets at once; pending calls raise."""
        self.death = self.death or "it was closed"
        async with AsyncExitStack() as stack:  # each, even if this is cancelled at another one
            for session in self._sessions.values():
                stack.push_async_callback(session.aclose)
