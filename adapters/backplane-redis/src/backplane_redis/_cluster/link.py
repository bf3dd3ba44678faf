"""`ClusterLink`: one link over a connection to each node of a cluster that it needs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from backplane_core import Frame, Lost, TransportError

from backplane_redis._cluster.node import ClusterNode
from backplane_redis._cluster.slots import SlotMap, slot_of
from backplane_redis._connection import LinkConnection
from backplane_redis._link import MAX_HEADS, Gets, Wait, packed
from backplane_redis._opening import Connector
from backplane_redis._url import Address, format_address

__all__ = ["ClusterLink"]

ASK_EVERY_S: Final = 0.5
"""A node that was not asked for so long is asked with the next send, so core's beats find a frozen one."""

GOSSIP_S: Final = 2.0
"""For so long nodes may disagree on who serves a slot, and a publisher's frames go past us: gaps begin earlier."""

CONNECT_S: Final = 5.0
"""A host that answers nothing must not hold the link up for ever."""

ROUNDS: Final = 12
FIRST_PAUSE_S: Final = 0.01
"""A node may send us to one that has not heard of it yet: within a second, in twelve growing steps, it has."""


class ClusterLink:
    """One link, made of as many connections as the channels need: when one dies, so does the link.

    A slot that moves costs the link nothing: its channels are subscribed where it went, with a `Lost` each, and what
    was refused is sent there, in order.

        pump per node ── bytes ──> receive() ── frames ──> core
                                       │ a node dropped a channel
                                       └──> mover: where does it live now? subscribe it there

    Args:
        slots: Who serves what, as far as known.
        connector: Connects to nodes.
    """

    def __init__(self, slots: SlotMap, connector: Connector) -> None:
        self._slots = slots
        self._connector = connector
        self._nodes: dict[Address, ClusterNode] = {}
        # Where each wanted channel is subscribed, or is being; None: its node dropped it.
        self._homes: dict[str, ClusterNode | None] = {}
        # Channels that were heard, and are not now.
        self._homeless: dict[str, None] = {}
        # What the mover has to look at: nodes that may be replicas by now, and subscriptions nobody wants there.
        self._suspects: dict[ClusterNode, None] = {}
        self._strays: list[tuple[ClusterNode, str]] = []
        # A node may have lost its last slot.
        self._leavable = False
        self._heads: dict[str, tuple[ClusterNode, bytes]] = {}
        # At most one entry per node: a pump reads on when its last one was taken. None wakes the reader.
        self._arrived: asyncio.Queue[tuple[ClusterNode, Gets | None] | None] = asyncio.Queue()
        self._receiving = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._mover: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()
        self._changing = asyncio.Lock()
        self._dead: str | None = None
        self._heard_until = time.monotonic() - GOSSIP_S

    def __repr__(self) -> str:
        nodes = ", ".join([format_address(address) for address in self._nodes]) or "no node yet"
        return f"<ClusterLink {nodes} {'live' if self._dead is None else 'dead'}>"

    @property
    def heard_until(self) -> float:
        """The moment until which every node's frames have been received; `time.monotonic()`, in seconds."""
        return self._heard_until

    @property
    def sure_until(self) -> float:
        """Likewise: what was sent after it may have gone to a node that was in charge no more."""
        return self._heard_until

    @property
    def in_vain(self) -> bool:
        """False: at most some of it was."""
        return False

    def adopt(self, address: Address, connection: LinkConnection) -> ClusterNode:
        """Take an open connection to a node."""
        node = self._nodes[address] = ClusterNode(connection, address, self)
        if self._receiving:
            self._spawn(self._pump(node))
        return node

    # Calls of core

    async def subscribe(self, channels: Sequence[str], *, after: str | None = None) -> None:  # noqa: ARG002 -- no log here
        """Return once each channel's own node confirmed it."""
        async with self._changing:
            await self._subscribe(channels)

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Return once no node delivers these any more."""
        async with self._changing:
            self._check()
            by_node: dict[ClusterNode, list[str]] = {}
            for channel in channels:
                self._homeless.pop(channel, None)
                if (home := self._homes.pop(channel, None)) is not None:
                    by_node.setdefault(home, []).append(channel)
            await self._all_confirmed([(node, await node.ask_unsubscribe(names)) for node, names in by_node.items()])

    async def send(self, frames: Sequence[Frame]) -> None:
        """Write each node's frames in one go; return once every one was taken, and silent nodes answered too.

        Cancellation: while it waits for the replies the link lives on; cut amid a write it is dead.
        """
        self._check()
        if not frames:
            return
        asked = await self._question_silent_nodes()
        for attempt in range(ROUNDS):
            await _pause(attempt)
            waits = await self._publish(frames)
            await self._all_confirmed(waits)
            frames = [frame for frame in self._moved(waits) if isinstance(frame, tuple)]
            if not frames:
                break
        else:
            raise self._given_up("frames")
        await self._all_confirmed(asked)
        for node, wait in asked:
            if wait.moved or node.is_replica:
                self._suspect(node)
        if self._leavable:  # here, where no frame is on its way to any node
            self._leavable = False
            await self._retire_nodes()

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        """Yield one list per read from a socket; while the caller is busy no socket is read more than once."""
        self._receiving = True
        for node in self._nodes.values():
            self._spawn(self._pump(node))
        try:
            while self._dead is None:
                if (arrived := await self._arrived.get()) is None:
                    continue
                node, gets = arrived
                if frames := node.take(gets):
                    yield frames
                self._note_heard()
                node.taken.set()
            raise self.error()
        finally:
            self._die("nobody reads it any more")

    async def aclose(self) -> None:
        """Close all sockets at once; pending calls raise, no task is left."""
        self._die("it was closed")
        async with AsyncExitStack() as stack:  # each, even if this is cancelled, or fails, at another one
            if self._tasks:
                stack.push_async_callback(asyncio.wait, [*self._tasks])
            for task in self._tasks:
                task.cancel()
            for node in self._nodes.values():
                stack.push_async_callback(node.aclose)

    # What nodes tell

    def heard(self, node: ClusterNode, channel: str) -> Lost | None:
        """A channel is heard there from now on; return what was lost of it before."""
        if self._homes.get(channel) is not node:
            self._strays.append((node, channel))
            self._move_soon()
            return None
        if channel not in self._homeless:
            return None
        del self._homeless[channel]
        return Lost(channel, "its slot moved to another node of the cluster")

    def dropped(self, node: ClusterNode, channel: str) -> None:
        """A channel that we have not left is not heard any more: its slot moves, or the node became a replica."""
        if self._homes.get(channel) is node:
            self._homes[channel] = None
            self._homeless[channel] = None
            self._suspect(node)

    def node_died(self, node: ClusterNode, reason: str) -> None:
        """Without one of its nodes the link is dead."""
        self._die(f"{format_address(node.address)}: {reason}")

    def error(self) -> TransportError:
        """Return why the link is dead."""
        return TransportError(f"the link to the Redis cluster is dead: {self._dead}")

    # Nodes

    async def _node(self, address: Address) -> ClusterNode:
        """Return the connection to a node; the first time, open it."""
        async with self._connecting:
            node = self._nodes.get(address)
            if node is None:
                node = self.adopt(address, await self._opened(address))
            return node

    async def _opened(self, address: Address) -> LinkConnection:
        self._check()
        try:
            async with asyncio.timeout(CONNECT_S):
                connection = await self._connector.open(address)
        except TimeoutError:
            raise TransportError(
                f"{format_address(address)} answers nothing: it is frozen, or the line is cut"
            ) from None
        if self._dead is not None:  # it died meanwhile, and aclose() has been
            await connection.disconnect(nowait=True)
            raise self.error()
        return connection

    async def _pump(self, node: ClusterNode) -> None:
        """Read a node's socket whenever what was read before has been taken."""
        while True:
            gets = await node.fetch()
            if node.retired:
                return
            self._arrived.put_nowait((node, gets))
            if gets is None:
                return
            await node.taken.wait()
            node.taken.clear()

    def _note_heard(self) -> None:
        """Remember until when all was received: the slowest node counts, and nothing while a channel is homeless."""
        if not self._homeless:
            heard = [node.heard_until for node in self._nodes.values() if node.hears]
            if heard:
                self._heard_until = max(self._heard_until, min(heard) - GOSSIP_S)

    async def _by_node(self, channels: Iterable[str]) -> dict[ClusterNode, list[str]]:
        by_node: dict[ClusterNode, list[str]] = {}
        for channel in channels:
            by_node.setdefault(await self._owner(channel), []).append(channel)
        return by_node

    async def _owner(self, channel: str) -> ClusterNode:
        address = self._slots.owner(slot_of(channel))
        if address is None:
            raise TransportError(f"no node of the Redis cluster serves the slot of channel {channel!r}")
        return self._nodes.get(address) or await self._node(address)

    async def _all_confirmed(self, waits: Iterable[tuple[ClusterNode, Wait]]) -> None:
        for node, wait in waits:
            await node.confirmed(wait)

    def _moved(self, waits: Iterable[tuple[ClusterNode, Wait]]) -> list[str | Frame]:
        """Follow what was refused because its slot moved, and return it, in order."""
        moved: list[str | Frame] = []
        for node, wait in waits:
            for operand, told in wait.moved:
                self._slots.moved(told, node.address)
                self._heads.pop(operand if isinstance(operand, str) else operand[0], None)
                moved.append(operand)
        return moved

    # Out

    async def _publish(self, frames: Sequence[Frame]) -> list[tuple[ClusterNode, Wait]]:
        # Before anything is routed: a slot that moves while a node is being connected must not part a channel's frames.
        heads: dict[str, tuple[ClusterNode, bytes]] = {}
        for frame in frames:
            if (channel := frame[0]) not in heads:
                heads[channel] = self._heads.get(channel) or await self._head(channel)
        batches: dict[ClusterNode, tuple[list[Frame], list[bytes]]] = {}
        for frame in frames:
            node, head = heads[frame[0]]
            batch = batches.get(node)
            if batch is None:
                batch = batches[node] = ([], [])
            batch[0].append(frame)
            batch[1].append(b"%b%d\r\n%b\r\n" % (head, len(frame[1]), frame[1]))
        return [(node, await node.publish(taken, b"".join(parts))) for node, (taken, parts) in batches.items()]

    async def _head(self, channel: str) -> tuple[ClusterNode, bytes]:
        """Return where a channel's frames go, and what each begins with."""
        if len(self._heads) >= MAX_HEADS:
            self._heads.clear()
        node = await self._owner(channel)
        head = self._heads[channel] = (node, b"*3" + packed("SPUBLISH", channel)[2:] + b"$")
        return head

    async def _question_silent_nodes(self) -> list[tuple[ClusterNode, Wait]]:
        now = time.monotonic()
        silent = [node for node in self._nodes.values() if now - node.asked_at >= ASK_EVERY_S]
        return [(node, await node.question(now)) for node in silent]

    # Slots that move

    async def _subscribe(self, channels: Sequence[str]) -> None:
        """Subscribe each channel at its node, or wherever that one sends us."""
        for attempt in range(ROUNDS):
            self._check()
            if not channels:
                return
            await _pause(attempt)
            by_node = await self._by_node(channels)
            now = time.monotonic()
            waits: list[tuple[ClusterNode, Wait]] = []
            asked: list[tuple[ClusterNode, Wait]] = []
            for node, names in by_node.items():
                self._homes.update(dict.fromkeys(names, node))
                waits.append((node, await node.ask_subscribe(names)))
                asked.append((node, await node.question(now)))
            await self._all_confirmed([*waits, *asked])
            channels = [name for name in self._moved(waits) if isinstance(name, str)]
            for node in by_node:
                if node.is_replica:
                    self._suspect(node)
        raise self._given_up("channels")

    def _suspect(self, node: ClusterNode) -> None:
        self._suspects[node] = None
        self._move_soon()

    def _move_soon(self) -> None:
        if self._mover is None or self._mover.done():
            self._mover = self._spawn(self._move())

    async def _move(self) -> None:
        """Give every channel a home again."""
        async with self._changing:
            attempt = 0
            while self._suspects or self._strays:
                if attempt == ROUNDS:
                    raise self._given_up("channels")
                await _pause(attempt)
                attempt += 1
                suspects, self._suspects = self._suspects, {}
                strays, self._strays = self._strays, []
                for node in suspects:
                    await self._look_at(node)
                for node, channel in strays:
                    if self._homes.get(channel) is not node and not node.retired:
                        await node.confirmed(await node.ask_unsubscribe([channel]))
                await self._subscribe([channel for channel in self._homeless if self._homes.get(channel) is None])
                self._leavable = True

    async def _look_at(self, node: ClusterNode) -> None:
        """Find out whether a node became a replica; it knows who is master now, and has what we subscribed too late."""
        if node.retired:
            return
        await node.confirmed(await node.ask_role())
        if not node.is_replica:
            return
        await node.confirmed(await node.ask_slots())
        self._slots = SlotMap.told(node.slots, node.address)
        self._heads.clear()
        if left := [channel for channel, home in self._homes.items() if home is node]:
            for channel in left:
                self._homes[channel] = None
                self._homeless[channel] = None
            await node.confirmed(await node.ask_unsubscribe(left))

    async def _retire_nodes(self) -> None:
        owners = self._slots.owners
        for address, node in list(self._nodes.items()):
            if address not in owners and node.idle:
                del self._nodes[address]
                self._heads.clear()
                await node.retire()

    # The end

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine, name="backplane-cluster")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._die(str(error) if isinstance(error, TransportError) else f"it failed: {type(error).__name__}")

    def _check(self) -> None:
        if self._dead is not None:
            raise self.error()

    def _given_up(self, what: str) -> TransportError:
        return TransportError(f"the nodes of the Redis cluster send the same {what} to and fro: they disagree on slots")

    def _die(self, reason: str) -> None:
        """Be dead from now on, for the first reason given, and wake all who wait."""
        if self._dead is not None:
            return
        self._dead = reason
        for node in self._nodes.values():
            node.fail(reason)
        self._arrived.put_nowait(None)


async def _pause(attempt: int) -> None:
    """Before the third attempt and later ones: the second goes where the first was sent to."""
    if attempt > 1:
        await asyncio.sleep(FIRST_PAUSE_S * attempt)
