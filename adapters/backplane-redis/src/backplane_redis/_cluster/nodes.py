"""`ClusterNodes`: the connections of one link, one to each node that it needs, and their one life."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import AsyncExitStack
from typing import Any, Final, TypeAlias

from backplane_core import AuthenticationError, Frame, TransportError

from backplane_redis._cluster.node import ClusterNode, NodeOwner
from backplane_redis._cluster.slots import SlotMap, slot_of
from backplane_redis._connection import LinkConnection
from backplane_redis._limits import Limits
from backplane_redis._opening import Connector
from backplane_redis._pending import PendingReply
from backplane_redis._url import Address, format_address

__all__ = ["ROUNDS", "ClusterNodes", "Writes", "all_confirmed", "pause"]

PROBE_EVERY_S: Final = 0.5
"""A node that was not asked for so long is asked with the next send, so core's beats find a frozen one."""

CONNECT_S: Final = 5.0
"""A host that never answers must not hold up the link for ever."""

ROUNDS: Final = 12
FIRST_PAUSE_S: Final = 0.01
"""A node may send us to one that has not heard of the move yet: within a second, in twelve growing pauses, it has."""

MAX_OWNERS: Final = 4_096
"""Channels whose node is kept at hand: a slot takes a hash of the name to be found."""

Writes: TypeAlias = "list[tuple[ClusterNode, PendingReply]]"
"""What was written in one go, and to which node."""


class ClusterNodes:
    """The nodes of one link: connected when first needed, read from one by one. When one dies, so do all.

        pump per node ── replies ──> arrived ──> the link's receive()

    Args:
        slots: Which node serves what, as far as known.
        connector: Connects to nodes.
        limits: What is known of how large a message may be.
        owner: What nodes report to.
    """

    def __init__(self, slots: SlotMap, connector: Connector, limits: Limits, owner: NodeOwner) -> None:
        self.arrived: asyncio.Queue[tuple[ClusterNode, Iterator[Any] | None] | None] = asyncio.Queue()
        """At most one entry per node: a pump reads on once its last one was taken. None wakes the reader."""
        self.death: str | None = None
        """Why all are dead; None: they live."""
        self.owners: dict[str, ClusterNode] = {}
        """What `owner_of` returned of late, by channel."""
        self._slots = slots
        self._connector = connector
        self._limits = limits
        self._owner = owner
        self._nodes: dict[Address, ClusterNode] = {}
        self._connecting = asyncio.Lock()
        self._are_read = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._lacks_rights = False

    def __iter__(self) -> Iterator[ClusterNode]:
        return iter(self._nodes.values())

    def __len__(self) -> int:
        return len(self._nodes)

    # Which node

    async def owner_of(self, channel: str) -> ClusterNode:
        """Return the node of a channel, connected.

        Raises:
            TransportError: No node serves its slot, or it can't be connected to.
        """
        address = self._slots.owner(slot_of(channel))
        if address is None:
            raise TransportError(f"no node of the Redis cluster serves the slot of channel {channel!r}")
        node = self._nodes.get(address) or await self._connected(address)
        if len(self.owners) >= MAX_OWNERS:
            self.owners.clear()
        self.owners[channel] = node
        return node

    async def group(self, channels: Iterable[str]) -> dict[ClusterNode, list[str]]:
        """Return these channels by their nodes; raise as `owner_of` does."""
        by_node: dict[ClusterNode, list[str]] = {}
        for channel in channels:
            by_node.setdefault(await self.owner_of(channel), []).append(channel)
        return by_node

    def follow_moves(self, written: Writes) -> list[str | Frame]:
        """Correct the slots of what was refused because it moved, and return those channels or frames, in order."""
        moved: list[str | Frame] = []
        for node, pending in written:
            for operand, rest in pending.moved:
                self._slots.correct(rest, node.address)
                self.owners.pop(operand if isinstance(operand, str) else operand[0], None)
                moved.append(operand)
        return moved

    def learn_from(self, node: ClusterNode) -> None:
        """Take the view of the cluster that this node has just reported, in place of ours."""
        self._slots = SlotMap.parse(node.slots, node.address)
        self.owners.clear()

    # Connections

    def adopt(self, address: Address, connection: LinkConnection) -> ClusterNode:
        """Take an open connection to a node."""
        node = self._nodes[address] = ClusterNode(connection, address, self._owner, self._limits)
        if self._are_read:
            self.spawn(self._pump(node))
        return node

    async def _connected(self, address: Address) -> ClusterNode:
        async with self._connecting:
            node = self._nodes.get(address)
            if node is None:
                node = self.adopt(address, await self._connect(address))
            return node

    async def _connect(self, address: Address) -> LinkConnection:
        self.raise_if_dead()
        try:
            async with asyncio.timeout(CONNECT_S):
                connection = await self._connector.open(address)
        except TimeoutError:
            where = format_address(address)
            raise TransportError(f"{where} answers nothing: it is frozen, or the network drops packets") from None
        if self.death is not None:  # they died meanwhile, and aclose() is over
            await connection.disconnect(nowait=True)
            raise self.error()
        return connection

    def start_reading(self) -> None:
        """Put what nodes send into `arrived` from now on."""
        self._are_read = True
        for node in self._nodes.values():
            self.spawn(self._pump(node))

    async def _pump(self, node: ClusterNode) -> None:
        """Read a node's socket, again each time that what was read before has been taken."""
        while True:
            replies = await node.fetch()
            if node.retired:
                return
            self.arrived.put_nowait((node, replies))
            if replies is None:
                return
            await node.consumed.wait()
            node.consumed.clear()

    async def probe_silent(self) -> Writes:
        """Ask every node that was not asked for some time; see `ClusterNode.write_probe`."""
        now = time.monotonic()
        silent = [node for node in self._nodes.values() if now - node.probed_at >= PROBE_EVERY_S]
        return [(node, await node.write_probe(now)) for node in silent]

    async def retire_unused(self) -> None:
        """Close the connections to nodes that serve no slot any longer. Call it while no frame is on its way."""
        owners = self._slots.owners
        for address, node in list(self._nodes.items()):
            if address not in owners and node.is_idle:
                del self._nodes[address]
                self.owners.clear()
                await node.retire()

    # The end

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run this until `aclose`; all nodes die if it fails."""
        task = asyncio.get_running_loop().create_task(coroutine, name="backplane-cluster")
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        return task

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.die(str(error) if isinstance(error, TransportError) else f"it failed: {type(error).__name__}")

    def node_died(self, node: ClusterNode, reason: str) -> None:
        """Let all die: one of them has."""
        self._lacks_rights = self._lacks_rights or (self.death is None and node.lacks_rights)
        self.die(f"{format_address(node.address)}: {reason}")

    def die(self, reason: str) -> None:
        """Mark all dead, for the first reason given, and wake every caller that waits."""
        if self.death is not None:
            return
        self.death = reason
        for node in self._nodes.values():
            node.die(reason)
        self.arrived.put_nowait(None)

    def error(self) -> TransportError:
        """Return why they are dead."""
        kind = AuthenticationError if self._lacks_rights else TransportError
        return kind(f"the link to the Redis cluster is dead: {self.death}")

    def raise_if_dead(self) -> None:
        """Raise `error` if they are dead."""
        if self.death is not None:
            raise self.error()

    async def aclose(self) -> None:
        """Close all sockets at once; pending calls raise, no task is left."""
        self.die("it was closed")
        async with AsyncExitStack() as stack:  # each, even if this is cancelled, or fails, at another one
            if self._tasks:
                stack.push_async_callback(asyncio.wait, [*self._tasks])
            for task in self._tasks:
                task.cancel()
            for node in self._nodes.values():
                stack.push_async_callback(node.aclose)


async def all_confirmed(written: Iterable[tuple[ClusterNode, PendingReply]]) -> None:
    """Return when each node has replied to all of this.

    Raises:
        TransportError: One died first.
    """
    for node, pending in written:
        await node.wait_confirmed(pending)


async def pause(attempt: int) -> None:
    """Wait before the third attempt and later ones; the second goes at once where the first was sent."""
    if attempt > 1:
        await asyncio.sleep(FIRST_PAUSE_S * attempt)
