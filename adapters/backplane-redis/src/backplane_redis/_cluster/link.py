"""`ClusterLink`: one link over a connection to each node of a cluster that it needs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from backplane_core import AuthenticationError, Frame, Lost, Proven, TransportError

from backplane_redis._cluster.node import ClusterNode
from backplane_redis._cluster.refused import Refused
from backplane_redis._cluster.slots import SlotMap, slot_of
from backplane_redis._connection import LinkConnection
from backplane_redis._limits import Limits
from backplane_redis._opening import Connector
from backplane_redis._pending import PendingReply
from backplane_redis._pipeline import MAX_HEADS, pack_command
from backplane_redis._url import Address, format_address

__all__ = ["ClusterLink"]

PROBE_EVERY_S: Final = 0.5
"""A node that was not asked for so long is asked with the next send, so core's beats find a frozen one."""

GOSSIP_S: Final = 2.0
"""How long nodes may disagree on who serves a slot, while news of a move spreads among them: publishers may still send
to the old node, past this link, so gaps begin this much earlier."""

CONNECT_S: Final = 5.0
"""A host that never answers must not hold up the link for ever."""

ROUNDS: Final = 12
FIRST_PAUSE_S: Final = 0.01
"""A node may send us to one that has not heard of the move yet: within a second, in twelve growing pauses, it has."""


class ClusterLink:
    """One link, made of as many connections as the channels need: when one dies, so does the link.

    A slot that moves does not cost the link its life: its channels are subscribed at the new node, with a `Lost` each,
    and frames that the old node refused are sent there, in order.

        pump per node ── bytes ──> receive() ── frames ──> core
                                       │ a node dropped a channel
                                       └──> mover: where does it live now? subscribe it there

    Every wanted channel has a placement: the node at which it is subscribed, or None once that node dropped it. A
    channel that was heard and now is not also stands in `_unplaced`, and while anything stands there, no later moment
    counts as received.

    Example: `c` lies in slot 12,304, and an operator moves that slot from A to B. A unsubscribes us by itself. From
    here on the fleet publishes `c` at B, where this link is not subscribed: `c` is unplaced, and A a suspect. The mover
    asks A for its role. If A is still a master, the link subscribes `c` where its slot map says, at A; A answers
    `MOVED 12304 B`, the map is corrected, and the next attempt goes to B. B's confirmation ends the span: it yields
    `Lost("c", ...)`, in the stream in front of B's first frame. If A has become a replica it would confirm everything
    and never say MOVED, so the link takes A's own view of the cluster first, and moves all that was subscribed there.

    Args:
        slots: Which node serves what, as far as known.
        connector: Connects to nodes.
        limits: What is known of how large a message may be.
    """

    def __init__(self, slots: SlotMap, connector: Connector, limits: Limits) -> None:
        self._slots = slots
        self._limits = limits
        self._connector = connector
        self._nodes: dict[Address, ClusterNode] = {}
        # Where each wanted channel is subscribed, or is about to be; None: its node dropped it.
        self._placements: dict[str, ClusterNode | None] = {}
        # Channels that were heard, and are not now.
        self._unplaced: dict[str, None] = {}
        # Work for the mover: nodes that may have become replicas, and subscriptions at nodes where nobody wants them.
        self._suspects: dict[ClusterNode, None] = {}
        self._misplaced: list[tuple[ClusterNode, str]] = []
        # Whether a node may have lost its last slot since nodes were retired.
        self._may_retire = False
        self._heads: dict[str, tuple[ClusterNode, bytes]] = {}
        # At most one entry per node: a pump reads on once its last one was taken. None wakes the reader.
        self._arrived: asyncio.Queue[tuple[ClusterNode, Iterator[Any] | None] | None] = asyncio.Queue()
        self._receiving = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._mover: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()
        # Held while subscriptions are changed, by core or by the mover.
        self._placing = asyncio.Lock()
        self._dead: str | None = None
        self._lacks_rights = False
        self._heard_until = time.monotonic() - GOSSIP_S

    def __repr__(self) -> str:
        nodes = ", ".join([format_address(address) for address in self._nodes]) or "no node yet"
        state = "live" if self._dead is None else "dead"
        return f"<ClusterLink {nodes} {state}, {len(self._placements)} channels, {len(self._unplaced)} of them moving>"

    def proven(self) -> Proven:
        """Return until when every node's frames were received; what was sent later may have gone to the wrong node."""
        return Proven(received_until=self._heard_until, replicated_until=self._heard_until)

    def adopt(self, address: Address, connection: LinkConnection) -> ClusterNode:
        """Take an open connection to a node."""
        node = self._nodes[address] = ClusterNode(connection, address, self, self._limits)
        if self._receiving:
            self._spawn(self._pump(node))
        return node

    # Calls of core

    async def subscribe(self, channels: Sequence[str]) -> None:
        """Return once each channel's own node confirmed it.

        Raises:
            TransportError: The link is dead.
            RefusedError: The user may not hear some of them; all others are confirmed.
        """
        async with self._placing:
            await self._subscribe(channels)

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Return once no node delivers these any longer."""
        async with self._placing:
            self._raise_if_dead()
            by_node: dict[ClusterNode, list[str]] = {}
            for channel in channels:
                self._unplaced.pop(channel, None)
                if (node := self._placements.pop(channel, None)) is not None:
                    by_node.setdefault(node, []).append(channel)
            await self._all_confirmed([(node, await node.write_unsubscribe(names)) for node, names in by_node.items()])

    async def send(self, frames: Sequence[Frame]) -> None:
        """Write each node's frames in one go; return once all were confirmed, and every node that was silent answered.

        Cancellation: the link stays live when cancelled while it waits for replies, and is dead when cancelled in the
        middle of a write.
        """
        self._raise_if_dead()
        if not frames:
            return
        given, refused = frames, Refused()
        probes = await self._probe_silent_nodes()
        for attempt in range(ROUNDS):
            await _pause(attempt)
            written = await self._publish(frames)
            await self._all_confirmed(written)
            refused.collect(written)
            frames = [frame for frame in self._follow_moves(written) if isinstance(frame, tuple)]
            if not frames:
                break
        else:
            raise self._disagreement("frames")
        await self._all_confirmed(probes)
        for node, probe in probes:
            if probe.moved or node.is_replica:
                self._suspect(node)
        if self._may_retire:  # here, where no frame is on its way to any node
            self._may_retire = False
            await self._retire_nodes()
        refused.check(given)

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        """Yield what arrived, one list per read; while the caller is busy each socket is read once more at most."""
        self._receiving = True
        for node in self._nodes.values():
            self._spawn(self._pump(node))
        try:
            while self._dead is None:
                if (arrived := await self._arrived.get()) is None:
                    continue
                node, replies = arrived
                if frames := node.take_read(replies):
                    yield frames
                self._advance_heard()
                node.consumed.set()
            raise self.error()
        finally:
            self._die("its reader stopped")

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

    # What nodes report

    def channel_heard(self, node: ClusterNode, channel: str) -> Lost | None:
        """Record that a node delivers a channel from now on; return what was lost of it before, if anything."""
        if self._placements.get(channel) is not node:
            self._misplaced.append((node, channel))
            self._move_soon()
            return None
        if channel not in self._unplaced:
            return None
        del self._unplaced[channel]
        return Lost(channel, "its slot moved to another node of the cluster")

    def channel_dropped(self, node: ClusterNode, channel: str) -> None:
        """Record that a node dropped a channel that we did not leave: its slot moves, or the node became a replica."""
        if self._placements.get(channel) is node:
            self._placements[channel] = None
            self._unplaced[channel] = None
            self._suspect(node)

    def node_died(self, node: ClusterNode, reason: str) -> None:
        """Mark the link dead: one of its nodes is gone."""
        self._lacks_rights = self._lacks_rights or (self._dead is None and node.lacks_rights)
        self._die(f"{format_address(node.address)}: {reason}")

    def error(self) -> TransportError:
        """Return why the link is dead."""
        kind = AuthenticationError if self._lacks_rights else TransportError
        return kind(f"the link to the Redis cluster is dead: {self._dead}")

    # Nodes

    async def _node(self, address: Address) -> ClusterNode:
        """Return the connection to a node; the first time, open it."""
        async with self._connecting:
            node = self._nodes.get(address)
            if node is None:
                node = self.adopt(address, await self._connect(address))
            return node

    async def _connect(self, address: Address) -> LinkConnection:
        self._raise_if_dead()
        try:
            async with asyncio.timeout(CONNECT_S):
                connection = await self._connector.open(address)
        except TimeoutError:
            where = format_address(address)
            raise TransportError(f"{where} answers nothing: it is frozen, or the network drops packets") from None
        if self._dead is not None:  # it died meanwhile, and aclose() is over
            await connection.disconnect(nowait=True)
            raise self.error()
        return connection

    async def _pump(self, node: ClusterNode) -> None:
        """Read a node's socket, again each time that what was read before has been taken."""
        while True:
            replies = await node.fetch()
            if node.retired:
                return
            self._arrived.put_nowait((node, replies))
            if replies is None:
                return
            await node.consumed.wait()
            node.consumed.clear()

    def _advance_heard(self) -> None:
        """Record until when everything was received: the slowest node decides, and no channel may be unplaced."""
        if not self._unplaced:
            proven = [node.proven_at for node in self._nodes.values() if node.has_subscriptions]
            if proven:
                self._heard_until = max(self._heard_until, min(proven) - GOSSIP_S)

    async def _group_by_node(self, channels: Iterable[str]) -> dict[ClusterNode, list[str]]:
        by_node: dict[ClusterNode, list[str]] = {}
        for channel in channels:
            by_node.setdefault(await self._owner_of(channel), []).append(channel)
        return by_node

    async def _owner_of(self, channel: str) -> ClusterNode:
        address = self._slots.owner(slot_of(channel))
        if address is None:
            raise TransportError(f"no node of the Redis cluster serves the slot of channel {channel!r}")
        return self._nodes.get(address) or await self._node(address)

    async def _all_confirmed(self, written: Iterable[tuple[ClusterNode, PendingReply]]) -> None:
        for node, pending in written:
            await node.wait_confirmed(pending)

    def _follow_moves(self, written: Iterable[tuple[ClusterNode, PendingReply]]) -> list[str | Frame]:
        """Correct the slots of what was refused because it moved, and return those channels or frames, in order."""
        moved: list[str | Frame] = []
        for node, pending in written:
            for operand, rest in pending.moved:
                self._slots.correct(rest, node.address)
                self._heads.pop(operand if isinstance(operand, str) else operand[0], None)
                moved.append(operand)
        return moved

    # Out

    async def _publish(self, frames: Sequence[Frame]) -> list[tuple[ClusterNode, PendingReply]]:
        # All heads before anything is written: a slot that moves while a node is being connected must not split one
        # channel's frames over two nodes, as these would arrive out of order.
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
        return [(node, await node.write_frames(taken, b"".join(parts))) for node, (taken, parts) in batches.items()]

    async def _head(self, channel: str) -> tuple[ClusterNode, bytes]:
        """Return where a channel's frames go, and the bytes that each begins with."""
        if len(self._heads) >= MAX_HEADS:
            self._heads.clear()
        node = await self._owner_of(channel)
        head = self._heads[channel] = (node, b"*3" + pack_command("SPUBLISH", channel)[2:] + b"$")
        return head

    async def _probe_silent_nodes(self) -> list[tuple[ClusterNode, PendingReply]]:
        now = time.monotonic()
        silent = [node for node in self._nodes.values() if now - node.probed_at >= PROBE_EVERY_S]
        return [(node, await node.write_probe(now)) for node in silent]

    # Slots that move

    async def _subscribe(self, channels: Sequence[str]) -> None:
        """Subscribe each channel at its node, or at the node that this one names instead."""
        given, refused = channels, Refused()
        for attempt in range(ROUNDS):
            self._raise_if_dead()
            if not channels:
                refused.check(given)
                return
            await _pause(attempt)
            by_node = await self._group_by_node(channels)
            now = time.monotonic()
            written: list[tuple[ClusterNode, PendingReply]] = []
            probes: list[tuple[ClusterNode, PendingReply]] = []
            for node, names in by_node.items():
                self._placements.update(dict.fromkeys(names, node))
                written.append((node, await node.write_subscribe(names)))
                probes.append((node, await node.write_probe(now)))
            await self._all_confirmed([*written, *probes])
            for channel in refused.collect(written):
                self._placements.pop(channel, None)
            channels = [name for name in self._follow_moves(written) if isinstance(name, str)]
            for node in by_node:
                if node.is_replica:
                    self._suspect(node)
        raise self._disagreement("channels")

    def _suspect(self, node: ClusterNode) -> None:
        self._suspects[node] = None
        self._move_soon()

    def _move_soon(self) -> None:
        if self._mover is None or self._mover.done():
            self._mover = self._spawn(self._move())

    async def _move(self) -> None:
        """Place every unplaced channel, and undo subscriptions where nobody wants them."""
        async with self._placing:
            attempt = 0
            while self._suspects or self._misplaced:
                if attempt == ROUNDS:
                    raise self._disagreement("channels")
                await _pause(attempt)
                attempt += 1
                suspects, self._suspects = self._suspects, {}
                misplaced, self._misplaced = self._misplaced, []
                for node in suspects:
                    await self._check_role(node)
                for node, channel in misplaced:
                    if self._placements.get(channel) is not node and not node.retired:
                        await node.wait_confirmed(await node.write_unsubscribe([channel]))
                await self._subscribe([channel for channel in self._unplaced if self._placements.get(channel) is None])
                self._may_retire = True

    async def _check_role(self, node: ClusterNode) -> None:
        """Find out whether a node became a replica; if so, learn the masters from it and take its channels away."""
        if node.retired:
            return
        await node.wait_confirmed(await node.write_hello())
        if not node.is_replica:
            return
        await node.wait_confirmed(await node.write_cluster_slots())
        self._slots = SlotMap.parse(node.slots, node.address)
        self._heads.clear()
        # Also those that were subscribed after it lost its slots: it confirmed them, and delivers nothing.
        if left := [channel for channel, placement in self._placements.items() if placement is node]:
            for channel in left:
                self._placements[channel] = None
                self._unplaced[channel] = None
            await node.wait_confirmed(await node.write_unsubscribe(left))

    async def _retire_nodes(self) -> None:
        owners = self._slots.owners
        for address, node in list(self._nodes.items()):
            if address not in owners and node.is_idle:
                del self._nodes[address]
                self._heads.clear()
                await node.retire()

    # The end

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine, name="backplane-cluster")
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        return task

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._die(str(error) if isinstance(error, TransportError) else f"it failed: {type(error).__name__}")

    def _raise_if_dead(self) -> None:
        if self._dead is not None:
            raise self.error()

    def _disagreement(self, what: str) -> TransportError:
        return TransportError(
            f"the nodes of the Redis cluster send the same {what} back and forth: they disagree on who serves the slots"
        )

    def _die(self, reason: str) -> None:
        """Mark the link dead, for the first reason given, and wake every caller that waits."""
        if self._dead is not None:
            return
        self._dead = reason
        for node in self._nodes.values():
            node.die(reason)
        self._arrived.put_nowait(None)


async def _pause(attempt: int) -> None:
    """Wait before the third attempt and later ones; the second goes at once where the first was sent."""
    if attempt > 1:
        await asyncio.sleep(FIRST_PAUSE_S * attempt)
